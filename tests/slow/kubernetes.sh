# The manifests against the schemas of Kubernetes' own API, which kubernetes-validate carries (PyPI), strict: a field
# that the API does not know is an error.
kubernetes_part() {
	local dir=bins/vgpu-profile-set/package/kubernetes venv=target/slow/kubernetes-validate version
	# The only part that needs PyPI. What the manifests hold is also a test of vgpu-profile-set, with a schema of ours.
	if ! { python3 -m venv "$venv" && "$venv/bin/pip" install --quiet kubernetes-validate==1.37.0; } >target/slow/pip.log 2>&1; then
		tail -n 2 target/slow/pip.log
		echo "left out: Kubernetes' own schemas (kubernetes-validate cannot be installed)"
		return 0
	fi
	for version in 1.30 1.37; do
		quietly "$venv/bin/kubernetes-validate" --strict -k "$version" \
			"$dir/namespace.yaml" "$dir/configmap.yaml" "$dir/daemonset.yaml" "$dir/openshift.yaml"
		ok "Kubernetes $version takes the manifests"
	done
}
