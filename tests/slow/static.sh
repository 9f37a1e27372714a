# shellcheck shell=bash disable=SC2154
# The static build, in a root that holds one program and nothing else. Read by tests/run-slow.

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
	cp target/static/gpu-iommu-groups "$root/tool"
	chroot "$root" /tool --root /m -o jsonl >"$root/static"
	target/release/gpu-iommu-groups --root "$root/m" -o jsonl >"$root/shared"
	# but for names, which come from a file that only the machine has
	local names='del(.class_name, .vendor_name, .device_name, .subsystem_name)'
	jq -c "$names" <"$root/static" >"$root/static.plain"
	jq -c "$names" <"$root/shared" >"$root/shared.plain"
	cmp "$root/static.plain" "$root/shared.plain" && [ -s "$root/static.plain" ] || die "the static lister says something else"
	ok "the lister says there what it says elsewhere"
	# the C library's own resolver: of /etc/hosts, with no other file and no library to load
	cp target/static/nv-runfile "$root/tool"
	mkdir "$root/etc"
	echo 127.0.0.1 mirror.test >"$root/etc/hosts"
	chroot "$root" /tool fetch 550.163.01 --mirror http://mirror.test:9 --cache /cache --retries 0 >"$root/fetch" 2>&1 && die "port 9 serves installers?"
	grep -qi 'refused' "$root/fetch" || { cat "$root/fetch"; die "the static nv-runfile finds no names"; }
	ok "nv-runfile looks names up there"
	rm -rf "$root"
}
