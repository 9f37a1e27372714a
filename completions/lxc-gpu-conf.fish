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

complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_needs_command" -s o -l output -d 'How to print' -r -f -a "auto\t'A table on a terminal, JSON lines in a pipe'
jsonl\t'One JSON object a line'
table\t'Aligned columns'"
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_needs_command" -l root -d 'Work on the machine below DIR instead of /' -r -F
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_needs_command" -s v -l verbose -d 'Say more on standard error'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_needs_command" -s q -l quiet -d 'Say only errors on standard error'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_needs_command" -s V -l version -d 'Print version'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_needs_command" -f -a "show" -d 'Show which GPUs containers have and what is wrong with them'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_needs_command" -f -a "add" -d 'Give a container GPUs'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_needs_command" -f -a "remove" -d 'Take GPUs away from a container'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_needs_command" -f -a "check" -d 'Find what keeps containers from their GPUs'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_needs_command" -f -a "sync" -d 'Bring containers back to what they are to have'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_needs_command" -f -a "nodes" -d 'Make this host\'s device nodes, with the numbers of now'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_needs_command" -f -a "hook" -d 'What a hookscript of Proxmox VE calls'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand show" -s o -l output -d 'How to print' -r -f -a "auto\t'A table on a terminal, JSON lines in a pipe'
jsonl\t'One JSON object a line'
table\t'Aligned columns'"
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand show" -l root -d 'Work on the machine below DIR instead of /' -r -F
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand show" -l all -d 'All containers of the cluster that have a GPU'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand show" -s v -l verbose -d 'Say more on standard error'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand show" -s q -l quiet -d 'Say only errors on standard error'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand show" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand add" -s g -l gpu -d 'GPU by address (41:00.0), UUID (GPU-...) or minor of /dev/nvidia<MINOR> (not nvidia-smi\'s index), or \'all\'; \'-\' for records on standard input' -r
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand add" -l mig -d 'MIG instance by GPU instance/compute instance (2/0) or UUID (MIG-...)' -r
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand add" -l imex -d 'IMEX channels, by number or \'all\'' -r
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand add" -l style -d 'How the container is given the nodes' -r -f -a "auto\t'dev[n] where pve-container has it (5.0.7) and the container has no mount entries for such nodes, else mount'
dev\t'dev[n]: Proxmox VE makes the nodes at each start'
mount\t'lxc.mount.entry, with device rules where the container is privileged'"
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand add" -l uid -d 'Owner of the nodes inside the container' -r
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand add" -l gid -d 'Group of the nodes inside the container' -r
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand add" -l mode -d 'Mode of the nodes inside the container (0666)' -r
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand add" -l libs -d 'Mount the host\'s driver libraries, file by file and read-only (utility,compute,video where none is named)' -r -f -a "utility\t'nvidia-smi and NVML'
compute\t'CUDA and OpenCL'
video\t'Encoding and decoding'
graphics\t'OpenGL, Vulkan, ray tracing'"
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand add" -l share-driver -d 'The same from a directory into which an installer was unpacked' -r
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand add" -l wait -d 'Wait so long until the nodes open inside (60 with --restart or --start)' -r
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand add" -s o -l output -d 'How to print' -r -f -a "auto\t'A table on a terminal, JSON lines in a pipe'
jsonl\t'One JSON object a line'
table\t'Aligned columns'"
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand add" -l root -d 'Work on the machine below DIR instead of /' -r -F
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand add" -l mig-monitor -d 'The right to watch all MIG instances'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand add" -l graphics -d 'DRM nodes and nvidia-modeset too, for OpenGL, Vulkan and displays'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand add" -l fabric -d 'NVSwitch and NVLink nodes too'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand add" -l convert -d 'Make dev[n] of hand-made mount entries and rules; without --gpu of those that are there'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand add" -l no-hotplug -d 'Never hand new nodes to the running container through pct'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand add" -l restart -d 'Restart the container if it runs and needs it, and wait until its nodes open inside'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand add" -l start -d 'Start the container if it does not run, and wait until its nodes open inside'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand add" -s n -l dry-run -d 'Show what would be done and do nothing'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand add" -l check -d 'As --dry-run, and exit 1 if a change would be made'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand add" -s v -l verbose -d 'Say more on standard error'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand add" -s q -l quiet -d 'Say only errors on standard error'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand add" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand remove" -s g -l gpu -d 'Only this GPU, by address, UUID or minor; \'-\' for records on standard input' -r
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand remove" -l mig -d 'Only this MIG instance' -r
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand remove" -l node -d 'Only this node' -r
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand remove" -l wait -d 'Wait so long until the nodes that it keeps open inside' -r
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand remove" -s o -l output -d 'How to print' -r -f -a "auto\t'A table on a terminal, JSON lines in a pipe'
jsonl\t'One JSON object a line'
table\t'Aligned columns'"
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand remove" -l root -d 'Work on the machine below DIR instead of /' -r -F
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand remove" -l libs -d 'Only the mounted driver libraries'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand remove" -l restart -d 'Restart the container if it runs'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand remove" -s n -l dry-run -d 'Show what would be done and do nothing'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand remove" -l check -d 'As --dry-run, and exit 1 if a change would be made'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand remove" -s v -l verbose -d 'Say more on standard error'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand remove" -s q -l quiet -d 'Say only errors on standard error'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand remove" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand check" -s o -l output -d 'How to print' -r -f -a "auto\t'A table on a terminal, JSON lines in a pipe'
jsonl\t'One JSON object a line'
table\t'Aligned columns'"
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand check" -l root -d 'Work on the machine below DIR instead of /' -r -F
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand check" -l all -d 'All containers of the cluster that have a GPU'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand check" -s v -l verbose -d 'Say more on standard error'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand check" -s q -l quiet -d 'Say only errors on standard error'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand check" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand sync" -s o -l output -d 'How to print' -r -f -a "auto\t'A table on a terminal, JSON lines in a pipe'
jsonl\t'One JSON object a line'
table\t'Aligned columns'"
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand sync" -l root -d 'Work on the machine below DIR instead of /' -r -F
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand sync" -l all -d 'All containers of the cluster that have a GPU'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand sync" -s n -l dry-run -d 'Show what would be done and do nothing'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand sync" -l check -d 'As --dry-run, and exit 1 if a change would be made'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand sync" -s v -l verbose -d 'Say more on standard error'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand sync" -s q -l quiet -d 'Say only errors on standard error'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand sync" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand nodes" -s o -l output -d 'How to print' -r -f -a "auto\t'A table on a terminal, JSON lines in a pipe'
jsonl\t'One JSON object a line'
table\t'Aligned columns'"
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand nodes" -l root -d 'Work on the machine below DIR instead of /' -r -F
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand nodes" -s n -l dry-run -d 'Show what would be done and do nothing'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand nodes" -l check -d 'As --dry-run, and exit 1 if a change would be made'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand nodes" -s v -l verbose -d 'Say more on standard error'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand nodes" -s q -l quiet -d 'Say only errors on standard error'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand nodes" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand hook" -s o -l output -d 'How to print' -r -f -a "auto\t'A table on a terminal, JSON lines in a pipe'
jsonl\t'One JSON object a line'
table\t'Aligned columns'"
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand hook" -l root -d 'Work on the machine below DIR instead of /' -r -F
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand hook" -l warn-only -d 'Say what is wrong and let the container start all the same'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand hook" -s v -l verbose -d 'Say more on standard error'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand hook" -s q -l quiet -d 'Say only errors on standard error'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand hook" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand help; and not __fish_seen_subcommand_from show add remove check sync nodes hook help" -f -a "show" -d 'Show which GPUs containers have and what is wrong with them'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand help; and not __fish_seen_subcommand_from show add remove check sync nodes hook help" -f -a "add" -d 'Give a container GPUs'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand help; and not __fish_seen_subcommand_from show add remove check sync nodes hook help" -f -a "remove" -d 'Take GPUs away from a container'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand help; and not __fish_seen_subcommand_from show add remove check sync nodes hook help" -f -a "check" -d 'Find what keeps containers from their GPUs'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand help; and not __fish_seen_subcommand_from show add remove check sync nodes hook help" -f -a "sync" -d 'Bring containers back to what they are to have'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand help; and not __fish_seen_subcommand_from show add remove check sync nodes hook help" -f -a "nodes" -d 'Make this host\'s device nodes, with the numbers of now'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand help; and not __fish_seen_subcommand_from show add remove check sync nodes hook help" -f -a "hook" -d 'What a hookscript of Proxmox VE calls'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand help; and not __fish_seen_subcommand_from show add remove check sync nodes hook help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
