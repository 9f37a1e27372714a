# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_lxc_gpu_conf_global_optspecs
    string join \n o/output= root= v/verbose q/quiet h/help V/version
end

function __fish_lxc_gpu_conf_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_lxc_gpu_conf_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_lxc_gpu_conf_using_subcommand
    set -l cmd (__fish_lxc_gpu_conf_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_needs_command" -s o -l output -d 'Output format: auto (table on a terminal), table, jsonl' -r -f -a "auto\t'A table on a terminal, JSON lines in a pipe'
jsonl\t'One JSON object a line'
table\t'Aligned columns'"
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_needs_command" -l root -d 'Operate on the system root DIR' -r -f -a "(__fish_complete_directories)"
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_needs_command" -s v -l verbose -d 'Print more messages'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_needs_command" -s q -l quiet -d 'Print only errors'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_needs_command" -s V -l version -d 'Print version'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_needs_command" -f -a "show" -d 'Show which GPUs containers have and what is wrong with them'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_needs_command" -f -a "add" -d 'Give a container GPUs'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_needs_command" -f -a "remove" -d 'Remove GPUs from a container'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_needs_command" -f -a "check" -d 'Check container GPU configuration'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_needs_command" -f -a "sync" -d 'Repair container GPU configuration after a reboot or update'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_needs_command" -f -a "nodes" -d 'Create or fix the NVIDIA device nodes in /dev'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_needs_command" -f -a "hook" -d 'Run checks from a hookscript'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand show" -s o -l output -d 'Output format: auto (table on a terminal), table, jsonl' -r -f -a "auto\t'A table on a terminal, JSON lines in a pipe'
jsonl\t'One JSON object a line'
table\t'Aligned columns'"
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand show" -l root -d 'Operate on the system root DIR' -r -f -a "(__fish_complete_directories)"
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand show" -l all -d 'All containers of the cluster that have a GPU'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand show" -s v -l verbose -d 'Print more messages'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand show" -s q -l quiet -d 'Print only errors'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand show" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand add" -s g -l gpu -d 'GPU: 41:00.0, GPU-UUID, minor, all or - (piped)' -r -f
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand add" -l mig -d 'MIG instance: GI/CI (2/0) or MIG-UUID' -r -f
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand add" -l imex -d 'IMEX channels, by number or \'all\'' -r -f
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand add" -l style -d 'How the container gets the nodes' -r -f -a "auto\t'dev[n] where pve-container has it (5.0.7) and the container has no mount entries for such nodes, else mount'
dev\t'dev[n]: Proxmox VE makes the nodes at each start'
mount\t'lxc.mount.entry, with device rules where the container is privileged'"
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand add" -l uid -d 'Owner of the nodes inside the container' -r -f
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand add" -l gid -d 'Group of the nodes inside the container' -r -f
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand add" -l mode -d 'Mode of the nodes inside the container (0666)' -r -f
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand add" -l libs -d 'Mount the host\'s driver libraries' -r -f -a "utility\t'nvidia-smi and NVML'
compute\t'CUDA and OpenCL'
video\t'Encoding and decoding'
graphics\t'OpenGL, Vulkan, ray tracing'"
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand add" -l share-driver -d 'Mount the driver libraries in DIR instead' -r -f -a "(__fish_complete_directories)"
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand add" -l wait -d 'Wait until its nodes open inside' -r -f
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand add" -s o -l output -d 'Output format: auto (table on a terminal), table, jsonl' -r -f -a "auto\t'A table on a terminal, JSON lines in a pipe'
jsonl\t'One JSON object a line'
table\t'Aligned columns'"
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand add" -l root -d 'Operate on the system root DIR' -r -f -a "(__fish_complete_directories)"
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand add" -l mig-monitor -d 'Allow monitoring all MIG instances'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand add" -l graphics -d 'Also give DRM nodes and nvidia-modeset'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand add" -l fabric -d 'Also give NVSwitch and NVLink nodes'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand add" -l convert -d 'Convert mount entries and rules to dev[n]'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand add" -l no-hotplug -d 'Do not hot-plug new nodes into a running container'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand add" -l restart -d 'Restart the container if it is running and needs it'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand add" -l start -d 'Start the container if it is not running'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand add" -s n -l dry-run -d 'Show what would change, but change nothing'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand add" -l check -d 'Like --dry-run; exit 1 if something would change'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand add" -s v -l verbose -d 'Print more messages'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand add" -s q -l quiet -d 'Print only errors'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand add" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand remove" -s g -l gpu -d 'GPU: 41:00.0, GPU-UUID, minor, all or - (piped)' -r -f
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand remove" -l mig -d 'MIG instance: GI/CI (2/0)' -r -f
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand remove" -l node -d 'Remove only this node' -r -F
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand remove" -l wait -d 'Wait until its nodes open inside' -r -f
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand remove" -s o -l output -d 'Output format: auto (table on a terminal), table, jsonl' -r -f -a "auto\t'A table on a terminal, JSON lines in a pipe'
jsonl\t'One JSON object a line'
table\t'Aligned columns'"
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand remove" -l root -d 'Operate on the system root DIR' -r -f -a "(__fish_complete_directories)"
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand remove" -l libs -d 'Remove only the mounted driver libraries'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand remove" -l restart -d 'Restart the container if it is running and needs it'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand remove" -s n -l dry-run -d 'Show what would change, but change nothing'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand remove" -l check -d 'Like --dry-run; exit 1 if something would change'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand remove" -s v -l verbose -d 'Print more messages'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand remove" -s q -l quiet -d 'Print only errors'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand remove" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand check" -s o -l output -d 'Output format: auto (table on a terminal), table, jsonl' -r -f -a "auto\t'A table on a terminal, JSON lines in a pipe'
jsonl\t'One JSON object a line'
table\t'Aligned columns'"
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand check" -l root -d 'Operate on the system root DIR' -r -f -a "(__fish_complete_directories)"
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand check" -l all -d 'All containers of the cluster that have a GPU'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand check" -s v -l verbose -d 'Print more messages'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand check" -s q -l quiet -d 'Print only errors'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand check" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand sync" -s o -l output -d 'Output format: auto (table on a terminal), table, jsonl' -r -f -a "auto\t'A table on a terminal, JSON lines in a pipe'
jsonl\t'One JSON object a line'
table\t'Aligned columns'"
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand sync" -l root -d 'Operate on the system root DIR' -r -f -a "(__fish_complete_directories)"
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand sync" -l all -d 'All containers of the cluster that have a GPU'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand sync" -s n -l dry-run -d 'Show what would change, but change nothing'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand sync" -l check -d 'Like --dry-run; exit 1 if something would change'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand sync" -s v -l verbose -d 'Print more messages'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand sync" -s q -l quiet -d 'Print only errors'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand sync" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand nodes" -s o -l output -d 'Output format: auto (table on a terminal), table, jsonl' -r -f -a "auto\t'A table on a terminal, JSON lines in a pipe'
jsonl\t'One JSON object a line'
table\t'Aligned columns'"
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand nodes" -l root -d 'Operate on the system root DIR' -r -f -a "(__fish_complete_directories)"
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand nodes" -s n -l dry-run -d 'Show what would change, but change nothing'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand nodes" -l check -d 'Like --dry-run; exit 1 if something would change'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand nodes" -s v -l verbose -d 'Print more messages'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand nodes" -s q -l quiet -d 'Print only errors'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand nodes" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand hook" -s o -l output -d 'Output format: auto (table on a terminal), table, jsonl' -r -f -a "auto\t'A table on a terminal, JSON lines in a pipe'
jsonl\t'One JSON object a line'
table\t'Aligned columns'"
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand hook" -l root -d 'Operate on the system root DIR' -r -f -a "(__fish_complete_directories)"
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand hook" -l warn-only -d 'Print problems, but let the container start anyway'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand hook" -s v -l verbose -d 'Print more messages'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand hook" -s q -l quiet -d 'Print only errors'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand hook" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand help; and not __fish_seen_subcommand_from show add remove check sync nodes hook help" -f -a "show" -d 'Show which GPUs containers have and what is wrong with them'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand help; and not __fish_seen_subcommand_from show add remove check sync nodes hook help" -f -a "add" -d 'Give a container GPUs'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand help; and not __fish_seen_subcommand_from show add remove check sync nodes hook help" -f -a "remove" -d 'Remove GPUs from a container'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand help; and not __fish_seen_subcommand_from show add remove check sync nodes hook help" -f -a "check" -d 'Check container GPU configuration'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand help; and not __fish_seen_subcommand_from show add remove check sync nodes hook help" -f -a "sync" -d 'Repair container GPU configuration after a reboot or update'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand help; and not __fish_seen_subcommand_from show add remove check sync nodes hook help" -f -a "nodes" -d 'Create or fix the NVIDIA device nodes in /dev'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand help; and not __fish_seen_subcommand_from show add remove check sync nodes hook help" -f -a "hook" -d 'Run checks from a hookscript'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand help; and not __fish_seen_subcommand_from show add remove check sync nodes hook help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'

set -g __pve_gpu_candidates '#!/bin/sh
# What a machine has that can be named on a command line: value, tab, what it is. It stands in each
# of the completions between single quotes, so it has none, and no backslash. Only files are read.
#
#   candidates.sh function|gpu|vf|ctid|version|cached|driver|vfio ROOT WORD

kind=$1 root=${2%/} word=$3

first() { # FILE: its first line, in $line
	line=
	[ -r "$1" ] && IFS= read -r line <"$1"
}

model() { # DIRECTORY VENDOR DEVICE: the name of a function, in $text
	text=
	info=$root/proc/driver/nvidia/gpus/${1##*/}/information
	if [ -r "$info" ]; then
		while IFS=: read -r key value; do
			if [ "$key" = Model ]; then text=${value#"${value%%[! 	]*}"}; fi
		done <"$info"
	fi
	[ -z "$text" ] || return 0
	ids=$root/usr/share/misc/pci.ids
	[ -r "$ids" ] || return 0
	text=$(sed -n "/^${2#0x} /,/^[0-9a-f]/p" "$ids" | grep "^	${3#0x}  ")
	text=${text#*  }
}

function_of() { # DIRECTORY: prints it if it is of the kind
	first "$1/class" && class=$line
	first "$1/vendor" && vendor=$line
	case $kind/$class/$vendor in
	function/0x03*/* | function/*/0x10de) [ ! -e "$1/physfn" ] || return 0 ;;
	gpu/0x03*/0x10de) [ ! -e "$1/physfn" ] || return 0 ;;
	vf/0x03*/0x10de) ;;
	*) return 0 ;;
	esac
	first "$1/device" && device=$line
	case $class in
	0x03*) model "$1" "$vendor" "$device" ;;
	0x0403*) text="audio of a GPU" ;;
	0x0c03*) text="USB of a GPU" ;;
	0x0c80*) text="USB-C of a GPU" ;;
	*) text= ;;
	esac
	[ ! -e "$1/physfn" ] || text="virtual function${text:+ of $text}"
	driver=$(readlink "$1/driver")
	text="${text:-${vendor#0x}:${device#0x}} (${driver##*/})"
	address=${1##*/}
	# whoever begins with the bus leaves the domain out
	case $word in
	"" | 0*) printf "%s	%s
" "$address" "${text% ()}" ;;
	esac
	case $word/$address in
	/* | 0000*) ;;
	*/0000:*) printf "%s	%s
" "${address#0000:}" "${text% ()}" ;;
	esac
}

container() { # FILE
	ctid=${1##*/}
	name=
	while IFS=": " read -r key value; do
		case $key in
		hostname) name=$value ;;
		"["*) break ;;
		esac
	done <"$1"
	printf "%s	%s
" "${ctid%.conf}" "$name"
}

versions() {
	for file in "$root"/var/cache/pve-gpu-tools/runfiles/NVIDIA-Linux-*.run; do
		[ -e "$file" ] || continue
		version=${file##*/NVIDIA-Linux-}
		version=${version#*-}
		version=${version%%[!0-9.]*}
		printf "%s	in the cache
" "${version%.}"
	done
	first "$root/sys/module/nvidia/version"
	[ -z "$line" ] || printf "%s	the loaded module
" "$line"
}

case $kind in
function | gpu | vf)
	for dir in "$root"/sys/bus/pci/devices/*; do
		if [ -e "$dir/class" ]; then function_of "$dir"; fi
	done
	;;
ctid)
	for file in "$root"/etc/pve/lxc/*.conf; do
		if [ -r "$file" ]; then container "$file"; fi
	done
	;;
version | cached) versions ;;
driver | vfio)
	for dir in "$root"/sys/bus/pci/drivers/*; do
		case $kind/${dir##*/} in
		driver/"*" | vfio/vfio-pci) ;;
		driver/* | vfio/*vfio*) printf "%s	driver
" "${dir##*/}" ;;
		esac
	done
	;;
esac
case $kind in
gpu) printf "all	all that the driver of NVIDIA owns
" ;;
version) printf "latest	the newest
" ;;
vfio)
	printf "auto	the variant of vfio-pci that fits best
vfio-pci	driver
"
	;;
esac
'

# Words of the machine itself: addresses, CTIDs, versions.
function __pve_gpu_complete
    set -l root
    set -l typed (commandline -opc)
    for at in (seq (count $typed))
        switch $typed[$at]
            case --root
                set -l next (math $at + 1)
                test $next -le (count $typed); and set root $typed[$next]
            case '--root=*'
                set root (string replace -- --root= '' $typed[$at])
        end
    end
    set -l word (commandline -ct | string replace -r '^--[^=]*=' '')
    # behind a comma the next of a list begins
    set -l before
    if contains -- $argv[1] gpu function
        set before (string match -r '.*,' -- $word)
        set word (string replace -r '.*,' '' -- $word)
    end
    sh -c $__pve_gpu_candidates sh $argv[1] "$root" "$word" 2>/dev/null | string replace -r '^' -- "$before"
end

# Installers, and directories that lead to some.
function __pve_gpu_runfiles
    __fish_complete_suffix .run | string match -r '^[^\t]*(?:/|[.]run)(?:\t.*)?$'
end

complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand show" -k -x -a '(__pve_gpu_complete ctid)'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand add" -k -x -a '(__pve_gpu_complete ctid)'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand add" -s g -l gpu -k -x -a '(__pve_gpu_complete gpu)'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand remove" -k -x -a '(__pve_gpu_complete ctid)'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand remove" -s g -l gpu -k -x -a '(__pve_gpu_complete gpu)'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand check" -k -x -a '(__pve_gpu_complete ctid)'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand sync" -k -x -a '(__pve_gpu_complete ctid)'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand hook" -k -x -a '(__pve_gpu_complete ctid)'
