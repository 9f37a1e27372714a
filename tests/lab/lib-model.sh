# shellcheck shell=sh
# Runs one scenario on the model kernel: the words of lib-guest.sh, for a machine that is mounted at $ROOT. Started
# by tests/model (scenarios), in which /tmp is a directory of the scenario's own: bin/ has the tools, raw and ctl,
# lab/ the scenarios. As in the guest the last line of output is "ok", or says what did not hold.
#
# What is different: the tools get --root; device nodes are lines of $ROOT/dev.list; who has a GPU open is a process
# in the model's /proc only. A writer that waits for FUSE is S, until it is killed, and then D: state_of_unbind prints
# what NVIDIA's driver makes of it (S, and R once it was killed) where the model says that a write has not come back.
# shellcheck disable=SC2034
SCENARIO=$1.sh
trap 'cat /tmp/stderr; echo "$SCENARIO: ended too early"' EXIT
: >/tmp/stderr
. /tmp/lab/lib-guest.sh
unalias hold

ROOT=/tmp/root
PCI=$ROOT/sys/bus/pci/devices

# the machine's paths, not the mount's; and no echo, which knows escapes in some shells
lab_log() { printf '%s\n' "$*" | sed "s,$ROOT/,/,g; s,/dev/vfio/[0-9][0-9]*,/dev/vfio/GROUP," >>$TRANSCRIPT; }
tool() {
	LAST=tool
	lab_tool=$1
	shift
	"$lab_tool" --root "$ROOT" "$@" >$OUT 2>$ERR
	RC=$?
	echo $RC >/tmp/rc
	SAID=
}
lab_there() {
	case $1 in
	"$ROOT"/dev/*) grep -q "^[a-z] ${1#"$ROOT"} " $ROOT/dev.list ;;
	*) [ -e "$1" ] || [ -L "$1" ] ;;
	esac
}
is_exists() { WHY='it is not there'; lab_there "$1"; }
is_absent() { WHY='it is there'; ! lab_there "$1"; }

lab_ctl() { LAB_SAID=$(ctl "$@") || lab_fail "$*: $LAB_SAID"; }
hold() {
	lab_ctl hold "$1"
	HOLDER=$LAB_SAID
	HOLDERS="$HOLDERS $HOLDER"
	lab_log "hold $1"
}
hold_hidden() {
	lab_ctl hold_hidden "$1"
	HIDDEN="$HIDDEN $1"
	lab_log "hold_hidden $1"
}
hold_late() {
	lab_ctl hold_late "$1"
	HIDDEN="$HIDDEN $1"
	lab_log "hold_late $1"
}
vgpu_card() {
	set_attr "$ROOT/sys/bus/pci/drivers/nvme/unbind" "$1"
	lab_ctl vgpu_card "$1"
	driver_is "$1" nvidia
}
let_go() {
	LAB_SAID=$(ctl let_go)
	HIDDEN=
	HOLDERS=
	lab_log let_go
}
kill_unbind() {
	KILLED=yes
	kill -9 $UNBINDER
	lab_log kill_unbind
}
state_of_unbind() {
	[ -n "$UNBINDER" ] || return 0
	while read -r lab_key lab_value _; do
		if [ "$lab_key" != State: ] || [ "$lab_value" = Z ]; then continue; fi
		if [ "$(ctl blocked)" = 0 ]; then echo "$lab_value"; elif [ -n "$KILLED" ]; then echo R; else echo S; fi
	done 2>/dev/null </proc/$UNBINDER/status
	return 0
}
alias hold='LINE=$LINENO hold'

# shellcheck disable=SC1090
. "/tmp/lab/scenarios/$SCENARIO" 2>/tmp/stderr
cat /tmp/stderr
if grep -q -e ': not found$' -e ': command not found$' /tmp/stderr; then
	# a word that does not exist has checked nothing
	trap - EXIT
	exit 1
fi
[ -z "$HOLDERS$HIDDEN" ] || let_go
trap - EXIT
echo ok
