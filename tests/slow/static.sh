# shellcheck shell=bash disable=SC2154
# The static build, in a root that contains one program and /proc. tests/run-slow reads this file.

static_part() {
	echo "== without shared libraries"
	quietly make --no-print-directory static
	root=$(mktemp -d)
	roots+=("$root")
	cp -a "$slow/machine" "$root/m"
	local tool
	for tool in "${tools[@]}"; do
		cp "target/static/$tool" "$root/tool"
		[ "$(chroot "$root" /tool --version)" = "$tool $version" ] || die "static $tool"
	done
	ok "${#tools[@]} tools start in a root that contains nothing else"
	# The tools open files in directories that others can write by way of /proc.
	mkdir "$root/proc"
	mount -t proc proc "$root/proc"
	cp target/static/gpu-iommu-groups "$root/tool"
	chroot "$root" /tool --root /m -o jsonl >"$root/static"
	target/release/gpu-iommu-groups --root "$root/m" -o jsonl >"$root/shared"
	cmp "$root/static" "$root/shared" && [ -s "$root/static" ] || die "the static gpu-iommu-groups prints something else"
	ok "the static gpu-iommu-groups prints what the other one prints"
	leave

	# Name look-ups next to another version of the C library and its modules.
	enter trixie
	install_deb --no-install-recommends libnss-myhostname
	cp target/static/nv-runfile "$root/tool"
	echo 127.0.0.1 mirror.test >>"$root/etc/hosts"
	echo 'hosts: myhostname files dns' >"$root/etc/nsswitch.conf"
	inside /tool fetch 550.163.01 --mirror http://mirror.test:9 --cache /cache --retries 0 >"$root/fetch" 2>&1 &&
		die "port 9 serves installers"
	grep -q 'mirror.test:9: refuses connections' "$root/fetch" || { cat "$root/fetch"; die "the static nv-runfile does not look up names"; }
	ok "the static nv-runfile looks up names next to another version of glibc"
	leave
}
