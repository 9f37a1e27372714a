# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_nv_runfile_global_optspecs
    string join \n o/output= root= v/verbose q/quiet h/help V/version
end

function __fish_nv_runfile_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_nv_runfile_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_nv_runfile_using_subcommand
    set -l cmd (__fish_nv_runfile_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c nv-runfile -n "__fish_nv_runfile_needs_command" -s o -l output -d 'Output format: auto (table on a terminal), table, jsonl' -r -f -a "auto\t'A table on a terminal, JSON lines in a pipe'
jsonl\t'One JSON object a line'
table\t'Aligned columns'"
complete -c nv-runfile -n "__fish_nv_runfile_needs_command" -l root -d 'Operate on the system root DIR' -r -f -a "(__fish_complete_directories)"
complete -c nv-runfile -n "__fish_nv_runfile_needs_command" -s v -l verbose -d 'Print more messages'
complete -c nv-runfile -n "__fish_nv_runfile_needs_command" -s q -l quiet -d 'Print only errors'
complete -c nv-runfile -n "__fish_nv_runfile_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c nv-runfile -n "__fish_nv_runfile_needs_command" -s V -l version -d 'Print version'
complete -c nv-runfile -n "__fish_nv_runfile_needs_command" -f -a "info" -d 'Show what an installer is'
complete -c nv-runfile -n "__fish_nv_runfile_needs_command" -f -a "verify" -d 'Verify embedded checksums'
complete -c nv-runfile -n "__fish_nv_runfile_needs_command" -f -a "list" -d 'List the contents of an installer'
complete -c nv-runfile -n "__fish_nv_runfile_needs_command" -f -a "extract" -d 'Extract an installer into a new directory'
complete -c nv-runfile -n "__fish_nv_runfile_needs_command" -f -a "install" -d 'Install a driver in a container or on the host'
complete -c nv-runfile -n "__fish_nv_runfile_needs_command" -f -a "uninstall" -d 'Remove the files that install added'
complete -c nv-runfile -n "__fish_nv_runfile_needs_command" -f -a "toolkit" -d 'Install the CUDA toolkit in a container'
complete -c nv-runfile -n "__fish_nv_runfile_needs_command" -f -a "fetch" -d 'Download and verify an installer'
complete -c nv-runfile -n "__fish_nv_runfile_needs_command" -f -a "prune" -d 'Remove cached installers'
complete -c nv-runfile -n "__fish_nv_runfile_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand info" -l for -d 'Show whether it supports this GPU (41:00.0)' -r -f
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand info" -s o -l output -d 'Output format: auto (table on a terminal), table, jsonl' -r -f -a "auto\t'A table on a terminal, JSON lines in a pipe'
jsonl\t'One JSON object a line'
table\t'Aligned columns'"
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand info" -l root -d 'Operate on the system root DIR' -r -f -a "(__fish_complete_directories)"
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand info" -s c -l contents -d 'Decompress it and show its contents'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand info" -s v -l verbose -d 'Print more messages'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand info" -s q -l quiet -d 'Print only errors'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand info" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand verify" -l sha256 -d 'Require this SHA-256' -r -f
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand verify" -s o -l output -d 'Output format: auto (table on a terminal), table, jsonl' -r -f -a "auto\t'A table on a terminal, JSON lines in a pipe'
jsonl\t'One JSON object a line'
table\t'Aligned columns'"
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand verify" -l root -d 'Operate on the system root DIR' -r -f -a "(__fish_complete_directories)"
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand verify" -s v -l verbose -d 'Print more messages'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand verify" -s q -l quiet -d 'Print only errors'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand verify" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand list" -l max-size -d 'Refuse more bytes in total (suffixes K, M, G, T)' -r -f
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand list" -l max-entries -d 'Refuse more members' -r -f
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand list" -s o -l output -d 'Output format: auto (table on a terminal), table, jsonl' -r -f -a "auto\t'A table on a terminal, JSON lines in a pipe'
jsonl\t'One JSON object a line'
table\t'Aligned columns'"
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand list" -l root -d 'Operate on the system root DIR' -r -f -a "(__fish_complete_directories)"
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand list" -s v -l verbose -d 'Print more messages'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand list" -s q -l quiet -d 'Print only errors'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand list" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand extract" -l sha256 -d 'Require this SHA-256' -r -f
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand extract" -l owner -d 'Set the owner of the files [default: the user]' -r -f
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand extract" -l umask -d 'Remove these permissions' -r -f
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand extract" -l max-size -d 'Refuse more bytes in total (suffixes K, M, G, T)' -r -f
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand extract" -l max-entries -d 'Refuse more members' -r -f
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand extract" -s o -l output -d 'Output format: auto (table on a terminal), table, jsonl' -r -f -a "auto\t'A table on a terminal, JSON lines in a pipe'
jsonl\t'One JSON object a line'
table\t'Aligned columns'"
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand extract" -l root -d 'Operate on the system root DIR' -r -f -a "(__fish_complete_directories)"
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand extract" -l force -d 'Override a safety refusal that mentions --force'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand extract" -s n -l dry-run -d 'Show what would change, but change nothing'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand extract" -l check -d 'Like --dry-run; exit 1 if something would change'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand extract" -s v -l verbose -d 'Print more messages'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand extract" -s q -l quiet -d 'Print only errors'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand extract" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand install" -l ct -d 'Install in this container, running or stopped' -r -f
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand install" -l share -d 'Install into a new directory for all containers' -r -f -a "(__fish_complete_directories)"
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand install" -l mode -d 'How to install in a container' -r -f -a "unpack\t'Place the files of the manifest from the host'
installer\t'Run the installer in the container, without kernel modules'"
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand install" -l set -d 'Install these library sets' -r -f -a "compute\t'CUDA and OpenCL'
utility\t'nvidia-smi and NVML'
video\t'Encoding and decoding'
graphics\t'OpenGL, Vulkan, ray tracing'"
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand install" -l kernel -d 'With --host: build the kernel module for this kernel' -r -f
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand install" -l signing-key -d 'With --host: sign the kernel modules with this key' -r -F
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand install" -l signing-cert -d 'With --host: certificate of the signing key, in DER' -r -F
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand install" -l sha256 -d 'Require this SHA-256' -r -f
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand install" -l max-size -d 'Refuse more bytes in total (suffixes K, M, G, T)' -r -f
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand install" -l max-entries -d 'Refuse more members' -r -f
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand install" -s o -l output -d 'Output format: auto (table on a terminal), table, jsonl' -r -f -a "auto\t'A table on a terminal, JSON lines in a pipe'
jsonl\t'One JSON object a line'
table\t'Aligned columns'"
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand install" -l root -d 'Operate on the system root DIR' -r -f -a "(__fish_complete_directories)"
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand install" -l all-cts -d 'Install in all containers that have a driver from nv-runfile'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand install" -l host -d 'Install on this host, after a pre-flight check'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand install" -l purge -d 'First remove drivers installed by other means'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand install" -l dkms -d 'With --host: build the kernel modules with DKMS'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand install" -l no-dkms -d 'With --host: build for the running kernel only'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand install" -l force -d 'Override a safety refusal that mentions --force'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand install" -s n -l dry-run -d 'Show what would change, but change nothing'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand install" -l check -d 'Like --dry-run; exit 1 if something would change'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand install" -s v -l verbose -d 'Print more messages'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand install" -s q -l quiet -d 'Print only errors'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand install" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand uninstall" -l ct -d 'Remove from this container, running or stopped' -r -f
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand uninstall" -s o -l output -d 'Output format: auto (table on a terminal), table, jsonl' -r -f -a "auto\t'A table on a terminal, JSON lines in a pipe'
jsonl\t'One JSON object a line'
table\t'Aligned columns'"
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand uninstall" -l root -d 'Operate on the system root DIR' -r -f -a "(__fish_complete_directories)"
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand uninstall" -l force -d 'Override a safety refusal that mentions --force'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand uninstall" -s n -l dry-run -d 'Show what would change, but change nothing'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand uninstall" -l check -d 'Like --dry-run; exit 1 if something would change'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand uninstall" -s v -l verbose -d 'Print more messages'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand uninstall" -s q -l quiet -d 'Print only errors'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand uninstall" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand toolkit" -l ct -d 'Install in this container, which must be running' -r -f
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand toolkit" -l cuda -d 'Release of CUDA, such as 12-8 or 12.8' -r -f
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand toolkit" -l runfile -d 'Run the toolkit part of this CUDA installer' -r -F
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand toolkit" -l sha256 -d 'Require this SHA-256' -r -f
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand toolkit" -l repo-url -d 'Use this repository, not NVIDIA\'s' -r -f
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand toolkit" -l key -d 'Use this signing key of the repository' -r -F
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand toolkit" -l retries -d 'Retry a failed download this often' -r -f
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand toolkit" -l retry-delay -d 'Wait before the first retry, then twice as long' -r -f
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand toolkit" -l connect-timeout -d 'Give up connecting after this time' -r -f
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand toolkit" -l stall-timeout -d 'Give up after this time below 1 kB/s' -r -f
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand toolkit" -s o -l output -d 'Output format: auto (table on a terminal), table, jsonl' -r -f -a "auto\t'A table on a terminal, JSON lines in a pipe'
jsonl\t'One JSON object a line'
table\t'Aligned columns'"
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand toolkit" -l root -d 'Operate on the system root DIR' -r -f -a "(__fish_complete_directories)"
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand toolkit" -l remove -d 'Remove the files that toolkit added'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand toolkit" -l force -d 'Override a safety refusal that mentions --force'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand toolkit" -s n -l dry-run -d 'Show what would change, but change nothing'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand toolkit" -l check -d 'Like --dry-run; exit 1 if something would change'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand toolkit" -s v -l verbose -d 'Print more messages'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand toolkit" -s q -l quiet -d 'Print only errors'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand toolkit" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand fetch" -l arch -d 'Architecture [default: the host\'s]' -r -f -a "x86_64\t''
aarch64\t''
ppc64le\t''
x86\t''"
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand fetch" -l mirror -d 'Download from below this URL, not from NVIDIA' -r -f
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand fetch" -l url -d 'Download the version from exactly this URL' -r -f
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand fetch" -l cache -d 'Use this directory as the cache' -r -f -a "(__fish_complete_directories)"
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand fetch" -l sha256 -d 'Require this SHA-256' -r -f
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand fetch" -l sha256sums -d 'Require the SHA-256 in this list' -r -F
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand fetch" -l retries -d 'Retry a failed download this often' -r -f
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand fetch" -l retry-delay -d 'Wait before the first retry, then twice as long' -r -f
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand fetch" -l connect-timeout -d 'Give up connecting after this time' -r -f
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand fetch" -l stall-timeout -d 'Give up after this time below 1 kB/s' -r -f
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand fetch" -s o -l output -d 'Output format: auto (table on a terminal), table, jsonl' -r -f -a "auto\t'A table on a terminal, JSON lines in a pipe'
jsonl\t'One JSON object a line'
table\t'Aligned columns'"
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand fetch" -l root -d 'Operate on the system root DIR' -r -f -a "(__fish_complete_directories)"
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand fetch" -l no-compat32 -d 'Download the installer without 32-bit libraries'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand fetch" -l unverified -d 'Accept a download without a known SHA-256'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand fetch" -l verify -d 'Read a cached file again and compare its SHA-256'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand fetch" -l offline -d 'Use only cached files'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand fetch" -s n -l dry-run -d 'Show what would change, but change nothing'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand fetch" -l check -d 'Like --dry-run; exit 1 if something would change'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand fetch" -s v -l verbose -d 'Print more messages'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand fetch" -s q -l quiet -d 'Print only errors'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand fetch" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand prune" -l keep -d 'Remove all but the newest NUMBER versions' -r -f
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand prune" -l keep-version -d 'Always keep this version' -r -f
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand prune" -l older-than -d 'Remove what was downloaded more than DAYS ago' -r -f
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand prune" -l cache -d 'Use this directory as the cache' -r -f -a "(__fish_complete_directories)"
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand prune" -s o -l output -d 'Output format: auto (table on a terminal), table, jsonl' -r -f -a "auto\t'A table on a terminal, JSON lines in a pipe'
jsonl\t'One JSON object a line'
table\t'Aligned columns'"
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand prune" -l root -d 'Operate on the system root DIR' -r -f -a "(__fish_complete_directories)"
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand prune" -l keep-partial -d 'Keep incomplete downloads'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand prune" -s n -l dry-run -d 'Show what would change, but change nothing'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand prune" -l check -d 'Like --dry-run; exit 1 if something would change'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand prune" -s v -l verbose -d 'Print more messages'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand prune" -s q -l quiet -d 'Print only errors'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand prune" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand help; and not __fish_seen_subcommand_from info verify list extract install uninstall toolkit fetch prune help" -f -a "info" -d 'Show what an installer is'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand help; and not __fish_seen_subcommand_from info verify list extract install uninstall toolkit fetch prune help" -f -a "verify" -d 'Verify embedded checksums'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand help; and not __fish_seen_subcommand_from info verify list extract install uninstall toolkit fetch prune help" -f -a "list" -d 'List the contents of an installer'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand help; and not __fish_seen_subcommand_from info verify list extract install uninstall toolkit fetch prune help" -f -a "extract" -d 'Extract an installer into a new directory'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand help; and not __fish_seen_subcommand_from info verify list extract install uninstall toolkit fetch prune help" -f -a "install" -d 'Install a driver in a container or on the host'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand help; and not __fish_seen_subcommand_from info verify list extract install uninstall toolkit fetch prune help" -f -a "uninstall" -d 'Remove the files that install added'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand help; and not __fish_seen_subcommand_from info verify list extract install uninstall toolkit fetch prune help" -f -a "toolkit" -d 'Install the CUDA toolkit in a container'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand help; and not __fish_seen_subcommand_from info verify list extract install uninstall toolkit fetch prune help" -f -a "fetch" -d 'Download and verify an installer'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand help; and not __fish_seen_subcommand_from info verify list extract install uninstall toolkit fetch prune help" -f -a "prune" -d 'Remove cached installers'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand help; and not __fish_seen_subcommand_from info verify list extract install uninstall toolkit fetch prune help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'

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

complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand info" -k -x -a '(__pve_gpu_runfiles)'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand info" -l for -k -x -a '(__pve_gpu_complete function)'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand verify" -k -x -a '(__pve_gpu_runfiles)'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand list" -k -x -a '(__pve_gpu_runfiles)'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand extract" -k -x -a '(__pve_gpu_runfiles)'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand install" -k -x -a '(__pve_gpu_runfiles)'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand install" -l ct -k -x -a '(__pve_gpu_complete ctid)'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand uninstall" -l ct -k -x -a '(__pve_gpu_complete ctid)'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand toolkit" -l ct -k -x -a '(__pve_gpu_complete ctid)'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand toolkit" -l runfile -k -x -a '(__pve_gpu_runfiles)'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand fetch" -k -x -a '(__pve_gpu_complete version)'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand prune" -l keep-version -k -x -a '(__pve_gpu_complete cached)'
