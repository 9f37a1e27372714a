# shellcheck shell=bash disable=SC2154
# The static build, in a root that holds one program and /proc. Read by tests/run-slow.

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
	ok "${#tools[@]} tools start in a root that holds nothing else"
	# files that others may have put there are opened by way of /proc
	mkdir "$root/proc"
	mount -t proc proc "$root/proc"
	cp target/static/gpu-iommu-groups "$root/tool"
	chroot "$root" /tool --root /m -o jsonl >"$root/static"
	target/release/gpu-iommu-groups --root "$root/m" -o jsonl >"$root/shared"
	cmp "$root/static" "$root/shared" && [ -s "$root/static" ] || die "the static lister says something else"
	ok "the lister says there what it says elsewhere"
	leave

	# names, beside another version of the C library and of its modules
	enter trixie
	install_deb --no-install-recommends libnss-myhostname
	cp target/static/nv-runfile "$root/tool"
	echo 127.0.0.1 mirror.test >>"$root/etc/hosts"
	echo 'hosts: myhostname files dns' >"$root/etc/nsswitch.conf"
	inside /tool fetch 550.163.01 --mirror http://mirror.test:9 --cache /cache --retries 0 >"$root/fetch" 2>&1 &&
		die "port 9 serves installers?"
	grep -q 'mirror.test:9: refuses connections' "$root/fetch" || { cat "$root/fetch"; die "the static nv-runfile finds no names"; }
	ok "nv-runfile looks names up beside another version of glibc"
	leave
}
