# shellcheck shell=sh
# The words for scenarios of several boots (header "boots: N"). The scenario runs in each, $BOOT is which; /etc, /var,
# /boot and the modules that DKMS builds stay.
#
#   boots_host          a host that can prepare its next boot: update-initramfs, update-grub, /etc/default/grub
#   host_driver VERSION the driver's installer and DKMS have left this version: its module is loaded now and from now on
#   unit NAME           the commands of a systemd unit of ours, as systemd runs them
#   hinted              as tool: the commands of the hint of the last tool, in their order
#   pipeline NAME       as tool: the commands that 'make -n' shows for the pipeline that the header calls so
#   vm_starts ADDR      a VM that has this function, as QEMU takes it: $VM is its process
#   vm_ends             it is gone
# shellcheck disable=SC2034,SC2142

boots_host() {
	for lab_program in update-initramfs lsinitramfs update-grub; do ln -s /lab/boot/$lab_program /bin/; done
	mkdir -p /usr/share/initramfs-tools /etc/default
	ln -s /lab/boot/hook-functions /usr/share/initramfs-tools/
	[ -e /etc/default/grub ] || echo 'GRUB_CMDLINE_LINUX_DEFAULT="quiet"' >/etc/default/grub
}

pipeline() { tool sh -e -o pipefail "/lab/pipelines/$1"; }

host_driver() {
	nvidia_unload
	cp "/opt/nvidia/$1"/*.ko "/lib/modules/$(uname -r)/updates/"
	nvidia_load gpus="$LAB_NVIDIA"
	lab_log "host_driver $1"
}

unit() {
	sed -n 's/^ExecStart=//p' "/lab/units/$1" >/tmp/unit
	while read -r lab_command; do
		# behind a dash its exit status does not count; our tools are elsewhere in this guest
		lab_words=$(echo "${lab_command#-}" | sed 's,/usr/bin/,,')
		# shellcheck disable=SC2086
		tool $lab_words
		[ "$lab_words" != "${lab_command#/usr/bin/}" ] || expect_rc 0
	done </tmp/unit
}

hinted() {
	# "commands":[["a","b"],["c"]] is a b && c: no word of these commands needs quotes
	lab_command=$(sed -n 's/.*"commands":\[\["\([^]]*\(\],\[[^]]*\)*\)"\]\].*/\1/p' $OUT | sort -u | head -n 1 |
		sed 's/"\],\["/ \&\& /g; s/","/ /g')
	[ -n "$lab_command" ] || lab_fail "no command is hinted at"
	lab_log "hinted $lab_command"
	tool sh -c "$lab_command"
}

vm_starts() {
	: >/tmp/vm
	raw vm "/dev/vfio/$(group_of "$1")" "$1" >/tmp/vm &
	VM=$!
	HOLDERS="$HOLDERS $VM"
	lab_until 5 test -s /tmp/vm
	[ "$(cat /tmp/vm)" = held ] || lab_fail "vm_starts $1: $(cat /tmp/vm)"
	lab_log "vm_starts $1"
}
vm_ends() {
	kill "$VM"
	wait "$VM"
	lab_log vm_ends
}

alias vm_starts='LINE=$LINENO vm_starts' host_driver='LINE=$LINENO host_driver' hinted='LINE=$LINENO hinted'
