# shellcheck shell=sh
# The words that scenarios are written in, for a real kernel (the model kernel has a library of its own with the
# same words). Addresses are full (0000:01:00.0), paths are the machine's.
#
#   tool NAME ARGS...       run one of our tools: $OUT and $ERR are files with what it printed, $RC its exit code
#   set_attr PATH VALUE     one write(2); VALUE knows \n, \0 and \\. $RC is 0 or 1, $SAID "ok" or the errno's name
#   expect_rc N             the last tool (or set_attr) ended so
#   statuses WORD...        these values of "status", and no others, are in $OUT
#   says STRING             it is in $OUT or $ERR (or in $SAID after set_attr)
#   driver_is ADDR NAME     the driver link; "none" for no driver
#   override_is ADDR NAME   driver_override; "null" where none is set
#   exists PATH / absent PATH
#   attr_is PATH VALUE      what a read gives, with the escapes of set_attr, or the errno's name
#   hold MINOR / let_go     a background process, $HOLDER, keeps /dev/nvidia<minor> open / all of them end
#   hold_nonblock MINOR     the same with O_NONBLOCK: where no GPU can be initialised the only open that succeeds
#   hold_hidden MINOR       the GPU is in use and no process has it open, as legacy persistence mode does; until let_go
#   hold_late MINOR         it is idle by all signs and in use when its unbind begins; until let_go
#   start_unbind ADDR       in the background: write ADDR to its driver's unbind
#   kill_unbind             kill -9 for that writer
#   state_of_unbind         prints the process state of the writer (D: blocked in the kernel), nothing if it is gone
#   unbind_is STATE|gone    the same as an expectation
#   within SECONDS CMD...   an expectation: true at the latest then; or any command: came back by then. SECONDS is what a
#                           machine of its own takes at most; one that is slow and shared is given $PATIENCE times that
#   expect_that TEXT CMD... any other command must succeed
#   nvidia_unload / nvidia_load ARG...   the driver's modules; ARG is nvidia's, or uvm_major=N
#   vgpu_host_driver        on disguised cards: nvidia as a vGPU host has it, with unbindLock
#   vgpu_card ADDR          a function with SR-IOV (nvme) becomes a card that can have vGPUs, on nvidia; its VFs are off
#   vgpu_vfs ADDR N         N virtual functions, as NVIDIA's sriov-manage makes them
#   note TEXT               a line in the transcript
#   group_of ADDR           prints the number of its IOMMU group
#
# An expectation that does not hold ends the scenario.
# shellcheck disable=SC2142,SC2034,SC2086

PCI=/sys/bus/pci/devices
ROOT=
OUT=/tmp/out
ERR=/tmp/err
RC=
SAID=
LAST=
HOLDER=
HOLDERS=
HIDDEN=
UNBINDER=
WHY=
LINE=0
PATIENCE=20
TRANSCRIPT=/tmp/transcript
: >$TRANSCRIPT
: >$OUT
: >$ERR

# What the kernel showed, as it is compared with contract/; the number of a group is no part of it.
lab_log() { echo "$*" | sed 's,/dev/vfio/[0-9][0-9]*,/dev/vfio/GROUP,' >>$TRANSCRIPT; }
lab_fail() {
	trap - EXIT
	let_go
	if [ "$LAST" = tool ]; then
		sed 's/^/  stdout: /' $OUT | cut -c1-300 | tail -n 5
		sed 's/^/  stderr: /' $ERR | head -n 20
	fi
	[ ! -s /tmp/stderr ] || cat /tmp/stderr
	echo "$SCENARIO:$LINE: $*"
	exit 1
}
# Each expectation is a function is_NAME that leaves in WHY what it found.
lab_expect() {
	lab_check=is_$1
	shift
	"$lab_check" "$@" || lab_fail "${lab_check#is_} $*: $WHY"
	case $lab_check in is_expect_rc | is_says | is_statuses) ;; *) lab_log "${lab_check#is_} $*" ;; esac
}
lab_quietly() {
	lab_check=is_$1
	shift
	"$lab_check" "$@"
}

note() { lab_log "# $*"; }
tool() {
	LAST=tool
	"$@" >$OUT 2>$ERR
	RC=$?
	echo $RC >/tmp/rc
	SAID=
}
set_attr() {
	LAST=set_attr
	SAID=$(raw write "$1" "$2")
	RC=$?
	if [ ${#2} -gt 80 ]; then set -- "$1" "<${#2} bytes>"; fi
	lab_log "write $1 '$2' -> $SAID"
}
is_expect_rc() { WHY="it was $RC${SAID:+ ($SAID)}"; [ "$RC" = "$1" ]; }
is_driver_is() {
	if [ -L "$PCI/$1/driver" ]; then WHY=$(readlink "$PCI/$1/driver"); WHY=${WHY##*/}; else WHY=none; fi
	[ "$WHY" = "$2" ]
}
is_override_is() {
	WHY=$(raw read "$PCI/$1/driver_override")
	case $WHY in '(null)\n' | '\n' | '') WHY=null ;; esac
	WHY=${WHY%\\n}
	[ "$WHY" = "$2" ]
}
is_exists() { WHY='it is not there'; [ -e "$1" ]; }
is_absent() { WHY='it is there'; [ ! -e "$1" ] && [ ! -L "$1" ]; }
is_attr_is() { WHY=$(raw read "$1"); [ "$WHY" = "$2" ]; }
is_statuses() {
	WHY=$(grep -o '"status":"[^"]*"' $OUT | cut -d'"' -f4 | sort -u | tr '\n' ' ')
	[ "$WHY" = "$(printf '%s\n' "$@" | sort -u | tr '\n' ' ')" ]
}
is_says() {
	WHY='it did not'
	if [ "$LAST" = tool ]; then grep -qF -- "$1" $OUT $ERR; else WHY="it was $SAID" && [ "$SAID" = "$1" ]; fi
}
is_unbind_is() {
	WHY=$(state_of_unbind)
	[ "${WHY:-gone}" = "$1" ]
}
expect_that() {
	lab_what=$1
	shift
	"$@" || lab_fail "not so: $lab_what"
}
expect_rc() { lab_expect expect_rc "$@"; }
driver_is() { lab_expect driver_is "$@"; }
override_is() { lab_expect override_is "$@"; }
exists() { lab_expect exists "$@"; }
absent() { lab_expect absent "$@"; }
attr_is() { lab_expect attr_is "$@"; }
statuses() { lab_expect statuses "$@"; }
says() { lab_expect says "$@"; }
unbind_is() { lab_expect unbind_is "$@"; }

hold() {
	: >/tmp/held
	raw "hold$2" "/dev/nvidia$1" >/tmp/held &
	HOLDER=$!
	HOLDERS="$HOLDERS $HOLDER"
	lab_until 5 test -s /tmp/held
	[ "$(cat /tmp/held)" = held ] || lab_fail "hold $1: $(cat /tmp/held)"
	lab_log "hold $1"
}
hold_nonblock() { hold "$1" -nonblock; }
# The real driver's usage count has no file: a module of ours raises it.
usage() { # hold|release MINOR
	if [ "$LAB_DRIVER" = real ]; then
		[ -e /sys/module/nvhold ] || modprobe nvhold
		[ "$1" = release ] || lab_held=$(address_of_minor "$2")
		echo "$lab_held" >"/sys/module/nvhold/parameters/$1"
	else
		echo "$2" >"/sys/module/nvidia/parameters/$1"
	fi
}
address_of_minor() {
	for lab_dir in /proc/driver/nvidia/gpus/*; do
		if [ "$(sed -n 's/^Device Minor:[^0-9]*//p' "$lab_dir/information")" = "$1" ]; then echo "${lab_dir##*/}"; fi
	done
}
hold_hidden() {
	usage hold "$1" || lab_fail "hold_hidden $1"
	HIDDEN="$HIDDEN $1"
	lab_log "hold_hidden $1"
}
hold_late() {
	echo "$1" >/sys/module/nvidia/parameters/hold_late || lab_fail "hold_late $1"
	HIDDEN="$HIDDEN $1"
	lab_log "hold_late $1"
}
let_go() {
	for lab_minor in $HIDDEN; do usage release "$lab_minor"; done
	HIDDEN=
	if [ -n "$HOLDERS" ]; then
		kill $HOLDERS 2>/dev/null
		wait $HOLDERS 2>/dev/null
	fi
	lab_log let_go
	HOLDERS=
}
start_unbind() {
	raw write "$PCI/$1/driver/unbind" "$1" >/tmp/unbind 2>&1 &
	UNBINDER=$!
	lab_log "start_unbind $1"
}
kill_unbind() {
	kill -9 $UNBINDER
	lab_log kill_unbind
}
# Only what /proc tells without the process's cooperation: one that is stuck answers nothing.
state_of_unbind() {
	[ -n "$UNBINDER" ] || return 0
	while read -r lab_key lab_value _; do
		if [ "$lab_key" = State: ] && [ "$lab_value" != Z ]; then echo "$lab_value"; fi
	done 2>/dev/null </proc/$UNBINDER/status
	return 0
}
nvidia_unload() { rmmod nvidia-uvm nvidia-modeset nvidia || lab_fail nvidia_unload; }
nvidia_load() {
	lab_uvm_major=0
	lab_args=
	for lab_arg; do
		case $lab_arg in
		uvm_major=*) lab_uvm_major=${lab_arg#*=} ;;
		*) lab_args="$lab_args $lab_arg" ;;
		esac
	done
	modprobe nvidia $lab_args || lab_fail "nvidia_load $*"
	modprobe nvidia-modeset
	if [ "$lab_uvm_major" = 0 ]; then modprobe nvidia-uvm; else modprobe nvidia-uvm uvm_major="$lab_uvm_major"; fi
}
vgpu_host_driver() {
	rmmod nvidia || lab_fail vgpu_host_driver
	if [ "$LAB_DRIVER" = real ]; then
		insmod /opt/nvidia/vgpu-host/nvidia.ko || lab_fail vgpu_host_driver
	else
		modprobe nvidia vgpu_host=1 uninitialized=1 || lab_fail vgpu_host_driver
	fi
}
vgpu_card() {
	nvidia_unload
	set_attr "$ROOT/sys/bus/pci/drivers/nvme/unbind" "$1"
	nvidia_load gpus="$LAB_NVIDIA,$1" vgpu_host=1
	# after nvidia: the functions that come match both, and the driver that registered first has them
	modprobe pci-pf-stub
	driver_is "$1" nvidia
}
vgpu_vfs() {
	set_attr "$ROOT/sys/bus/pci/drivers/nvidia/unbind" "$1"
	set_attr "$ROOT/sys/bus/pci/drivers/pci-pf-stub/new_id" '10de 26b9'
	driver_is "$1" pci-pf-stub
	set_attr "$PCI/$1/sriov_numvfs" "$2"
	set_attr "$ROOT/sys/bus/pci/drivers/pci-pf-stub/unbind" "$1"
	set_attr "$ROOT/sys/bus/pci/drivers/pci-pf-stub/remove_id" '10de 26b9'
	set_attr "$ROOT/sys/bus/pci/drivers/nvidia/bind" "$1"
	driver_is "$1" nvidia
}
group_of() { basename "$(readlink "$PCI/$1/iommu_group")"; }

# Whether a command succeeded at last, of those that may take so many seconds and no longer than the patience is.
lab_until() {
	lab_limit=$(($1 * PATIENCE))
	shift
	lab_end=$(($(cut -d. -f1 /proc/uptime) + lab_limit))
	until "$@"; do
		[ "$(cut -d. -f1 /proc/uptime)" -lt $lab_end ] || return 1
		sleep 0.1
	done
}
within() {
	lab_seconds=$1
	shift
	case $1 in
	expect_rc | driver_is | override_is | exists | absent | attr_is | statuses | says | unbind_is)
		lab_until "$lab_seconds" lab_quietly "$@" || lab_fail "not within $lab_limit s: $*: $WHY"
		lab_log "$*"
		;;
	*)
		rm -f /tmp/returned /tmp/rc
		{ "$@"; touch /tmp/returned; } &
		LAST=$1
		lab_until "$lab_seconds" test -e /tmp/returned || lab_fail "did not return within $lab_limit s: $*"
		[ ! -e /tmp/rc ] || RC=$(cat /tmp/rc)
		;;
	esac
}

# A failing expectation says where in the scenario it stands.
alias expect_rc='LINE=$LINENO expect_rc' driver_is='LINE=$LINENO driver_is' override_is='LINE=$LINENO override_is'
alias exists='LINE=$LINENO exists' absent='LINE=$LINENO absent' attr_is='LINE=$LINENO attr_is'
alias statuses='LINE=$LINENO statuses' says='LINE=$LINENO says' unbind_is='LINE=$LINENO unbind_is'
alias expect_that='LINE=$LINENO expect_that'
alias hold='LINE=$LINENO hold' within='LINE=$LINENO within'
