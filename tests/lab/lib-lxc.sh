# shellcheck shell=sh
# The words for scenarios with containers (header "lxc: yes"): a machine that passes for a Proxmox VE host, and
# its part of starting a container, as pve-container 6.0 does it. LXC itself is real.
#
#   pve_host                 /etc/pve of one node, pve-container in dpkg's records, what LXC needs mounted, a pct
#                            for what runs in the scenario (lxc/pct), the package's hookscript as local:snippets/gpu
#   ct_create ID KIND        a container with busybox in it: unprivileged or privileged
#   ct_conf ID               the path of its configuration
#   ct_start ID              as pct start: a start that fails ends the scenario
#   ct_starts_not ID TEXT    an expectation: the start fails, and TEXT is among what was said
#   ct_stop ID               as pct stop
#   ct_open ID PATH [UID]    prints what an open for reading and writing gives inside: ok, or the errno's name
#   opens_inside ID PATH RESULT [UID]   an expectation: that it is RESULT
#   major_of NAME            prints the major number that the kernel gave NAME
#   nodes                    'lxc-gpu-conf nodes': the host's /dev has NVIDIA's nodes with the numbers of now
#   reload_nvidia UVM_MAJOR  the module is loaded again, and nvidia-uvm has another number
#   opened PATH...           an expectation: the last tool says of these, and of no others, that they open inside
#   each_kind WORD...        WORD for each of four containers, whose $id, $kind (unprivileged, privileged) and $style
#                            (dev, mount) it finds
#   ct_hook ID               its configuration names the package's hookscript
# shellcheck disable=SC2142,SC2034

LXC_DIR=/var/lib/lxc

pve_host() {
	mount -t cgroup2 cgroup2 /sys/fs/cgroup
	mkdir -p /dev/pts /dev/shm /run/lock/lxc
	mount -t devpts -o gid=5,mode=620,ptmxmode=666 devpts /dev/pts
	# as systemd leaves it on every host
	mount --make-rshared /
	mkdir -p /etc/pve/nodes/lab/lxc /var/lib/dpkg
	ln -sfn nodes/lab /etc/pve/local
	ln -sfn nodes/lab/lxc /etc/pve/lxc
	printf '%s\n' 'root:x:0:0:root:/root:/bin/sh' >/etc/passwd
	printf '%s\n' 'root:x:0:' 'tty:x:5:' 'www-data:x:33:' >/etc/group
	printf 'Package: pve-container\nStatus: install ok installed\nVersion: 6.0.13\n' >/var/lib/dpkg/status
	ln -s /lab/pct /bin/pct
	mkdir -p /var/lib/vz/snippets
	cp /lab/hookscript /var/lib/vz/snippets/gpu
	# an unprivileged container has no list of allowed devices, as Proxmox VE sets it up
	mkdir -p /usr/share/lxc/config/userns.conf.d
	echo 'lxc.cgroup2.devices.allow = a' >/usr/share/lxc/config/userns.conf.d/01-pve.conf
}

ct_conf() { echo "/etc/pve/lxc/$1.conf"; }
ct_create() {
	lab_root=$LXC_DIR/$1/rootfs
	mkdir -p "$lab_root/bin" "$lab_root/dev" "$lab_root/proc" "$lab_root/sys" "$lab_root/etc" "$lab_root/tmp"
	ln -s bin "$lab_root/sbin"
	# on a disk of several boots it cannot be a link
	ln /bin/busybox /bin/raw "$lab_root/bin/" 2>/dev/null || cp /bin/busybox /bin/raw "$lab_root/bin/"
	ln -s busybox "$lab_root/bin/init"
	ln -s busybox "$lab_root/bin/sh"
	echo '::once:/bin/true' >"$lab_root/etc/inittab"
	{
		printf '%s\n' '#Made by hand' 'arch: amd64' 'cores: 2' "hostname: ct$1" 'memory: 512' 'ostype: debian'
		echo "rootfs: local-zfs:subvol-$1-disk-0,size=8G"
		echo 'swap: 0'
		[ "$2" != unprivileged ] || echo 'unprivileged: 1'
		# what must not count: a snapshot's section
		printf '\n[before]\n%s\n' 'arch: amd64' 'dev0: /dev/nowhere' 'ostype: debian' 'lxc.mount.auto: nonsense'
	} >"$(ct_conf "$1")"
	chmod 640 "$(ct_conf "$1")"
	# links share their owner with the guest's own programs, which stay executable by everybody
	[ "$2" != unprivileged ] || find "$lab_root" ! -type f -exec chown -h 100000:100000 {} +
}

# The main section of its configuration to LXC's own (PVE::LXC::update_lxc_config): dev[n] with the numbers that
# the host's nodes have now, then the lxc.* lines as they stand.
ct_translate() {
	lab_main=$(sed '/^\[/,$d' "$(ct_conf "$1")")
	lab_base=0
	if echo "$lab_main" | grep -q '^unprivileged: 1$'; then lab_base=100000; fi
	: >"$LXC_DIR/$1/dev"
	{
		echo 'lxc.cgroup.relative = 0'
		echo "lxc.cgroup.dir.monitor = lxc.monitor/$1"
		echo "lxc.cgroup.dir.container = lxc/$1"
		echo 'lxc.cgroup.dir.container.inner = ns'
		echo 'lxc.arch = amd64'
		echo 'lxc.include = /usr/share/lxc/config/common.conf'
		[ $lab_base = 0 ] || echo 'lxc.include = /usr/share/lxc/config/userns.conf'
		# Proxmox VE has LXC generate a profile; nothing here loads one
		echo 'lxc.apparmor.profile = unconfined'
		[ $lab_base = 0 ] || echo 'lxc.mount.auto = sys:mixed'
		echo 'lxc.monitor.unshare = 1'
		[ $lab_base = 0 ] || printf 'lxc.idmap = %s 0 100000 65536\n' u g
		echo 'lxc.tty.max = 2'
		echo "lxc.uts.name = ct$1"
		echo "lxc.rootfs.path = $LXC_DIR/$1/rootfs"
		# LXC follows no symlink to it, and the guest's /usr/lib is one
		echo 'lxc.rootfs.mount = /lib/x86_64-linux-gnu/lxc/rootfs'
		echo 'lxc.net.0.type = empty'
		echo 'lxc.hook.pre-start = /lab/prestart-hook'
		echo 'lxc.hook.autodev = /lab/autodev-hook'
		echo "$lab_main" | sed -n 's/^dev[0-9]\{1,3\}: *//p' | while IFS=, read -r lab_path lab_options; do
			lab_path=${lab_path#path=} lab_mode=0660 lab_uid=0 lab_gid=0 lab_bits=rw
			for lab_option in $(echo "$lab_options" | tr , ' '); do
				case $lab_option in
				mode=*) lab_mode=${lab_option#*=} ;;
				uid=*) lab_uid=${lab_option#*=} ;;
				gid=*) lab_gid=${lab_option#*=} ;;
				deny-write=1) lab_bits=r ;;
				esac
			done
			if [ ! -e "$lab_path" ]; then
				echo "Device $lab_path does not exist" >&2
				return 1
			fi
			if [ ! -c "$lab_path" ]; then
				echo "$lab_path is not a device" >&2
				return 1
			fi
			lab_numbers=$(stat -c '%t %T' "$lab_path")
			lab_numbers=$((0x${lab_numbers% *})):$((0x${lab_numbers#* }))
			echo "lxc.cgroup2.devices.allow = c $lab_numbers $lab_bits"
			[ $lab_bits = rw ] || echo "lxc.cgroup2.devices.deny = c $lab_numbers w"
			echo "$lab_path $lab_mode $((lab_base + lab_uid)) $((lab_base + lab_gid))" >>"$LXC_DIR/$1/dev"
		done || return 1
		echo "$lab_main" | sed -n 's/^\(lxc\.[a-z0-9_.-]*\)\(:\| *=\) *\(.*\)/\1 = \3/p'
	} >"$LXC_DIR/$1/config"
}

ct_try_start() {
	rm -f /tmp/start.log
	ct_translate "$1" 2>/tmp/start || return 1
	lxc-start -d -n "$1" -o /tmp/start.log -l INFO 2>>/tmp/start && lxc-info -n "$1" -s | grep -q RUNNING
}
ct_start() {
	ct_try_start "$1" || lab_fail "ct_start $1: $(grep -h -E 'ERROR|^[^l]' /tmp/start /tmp/start.log | head -n 20)"
	lab_log "ct_start $1"
}
is_ct_starts_not() {
	if ct_try_start "$1"; then
		WHY='it started'
		return 1
	fi
	WHY=$(grep -h -v INFO /tmp/start /tmp/start.log 2>/dev/null | tail -n 20)
	grep -qsF -- "$2" /tmp/start /tmp/start.log
}
ct_starts_not() { lab_expect ct_starts_not "$@"; }
ct_stop() {
	lxc-stop -k -n "$1" || lab_fail "ct_stop $1"
	# the monitor's last steps come after the answer
	lab_until 5 test ! -d "/sys/fs/cgroup/lxc.monitor/$1" || lab_fail "ct_stop $1: its monitor has not ended"
	lab_log "ct_stop $1"
}
ct_open() { lxc-attach -n "$1" -u "${3:-0}" -g "${3:-0}" -- /bin/raw open "$2" 2>/tmp/attach; }
is_opens_inside() {
	WHY=$(ct_open "$1" "$2" "${4:-0}")
	[ "$WHY" = "$3" ] || { WHY="$WHY $(cat /tmp/attach)"; return 1; }
}
opens_inside() { lab_expect opens_inside "$@"; }

major_of() { sed -n "/^Character/,/^Block/s/^ *\\([0-9]*\\) $1\$/\\1/p" /proc/devices | head -n 1; }
reload_nvidia() {
	lab_uvm=$(major_of nvidia-uvm)
	# the number of nvidia-caps stays: a free one could be the one that nvidia-uvm had
	lab_caps=$(major_of nvidia-caps)
	nvidia_unload
	nvidia_load gpus="$LAB_NVIDIA" uvm_major="$1" caps_major="$lab_caps"
	[ "$lab_uvm" != "$1" ] && [ "$(major_of nvidia-uvm)" = "$1" ] || lab_fail "reload_nvidia $1: it was $lab_uvm"
	lab_log "reload_nvidia $1"
}

is_opened() {
	WHY=$(grep '"type":"check"' $OUT | grep '"status":"ok"' | sed 's/.*"property":"\([^"]*\)".*/\1/' | sort | tr '\n' ' ')
	[ "$WHY" = "$(printf '%s\n' "$@" | sort | tr '\n' ' ')" ]
}
opened() { lab_expect opened "$@"; }
ct_hook() { sed -i '1,/^hostname/s,^hostname,hookscript: local:snippets/gpu\n&,' "$(ct_conf "$1")"; }

each_kind() {
	for lab_kind in 901:unprivileged:dev 902:unprivileged:mount 903:privileged:dev 904:privileged:mount; do
		id=${lab_kind%%:*} style=${lab_kind##*:} kind=${lab_kind#*:}
		kind=${kind%:*}
		"$@"
	done
}

nodes() {
	tool lxc-gpu-conf nodes
	expect_rc 0
}

alias ct_start='LINE=$LINENO ct_start' ct_stop='LINE=$LINENO ct_stop' opens_inside='LINE=$LINENO opens_inside'
alias opened='LINE=$LINENO opened'
alias ct_starts_not='LINE=$LINENO ct_starts_not' reload_nvidia='LINE=$LINENO reload_nvidia'
