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
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_needs_command" -f -a "show" -d 'Show which GPUs a container has and what is wrong with them'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_needs_command" -f -a "add" -d 'Give a container GPUs'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand show" -s o -l output -d 'How to print' -r -f -a "auto\t'A table on a terminal, JSON lines in a pipe'
jsonl\t'One JSON object a line'
table\t'Aligned columns'"
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand show" -l root -d 'Work on the machine below DIR instead of /' -r -F
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand show" -s v -l verbose -d 'Say more on standard error'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand show" -s q -l quiet -d 'Say only errors on standard error'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand show" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand add" -s g -l gpu -d 'GPU by address (41:00.0), UUID (GPU-...) or minor of /dev/nvidia<MINOR> (not nvidia-smi\'s index), or \'all\'; standard input is then not read' -r
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand add" -l style -d 'How the container is given the nodes' -r -f -a "auto\t'dev[n] where pve-container has it (5.0.7) and the container has no mount entries for such nodes, else mount'
dev\t'dev[n]: Proxmox VE makes the nodes at each start'
mount\t'lxc.mount.entry, with device rules where the container is privileged'"
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand add" -s o -l output -d 'How to print' -r -f -a "auto\t'A table on a terminal, JSON lines in a pipe'
jsonl\t'One JSON object a line'
table\t'Aligned columns'"
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand add" -l root -d 'Work on the machine below DIR instead of /' -r -F
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand add" -s n -l dry-run -d 'Show what would be done and do nothing'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand add" -l check -d 'As --dry-run, and exit 1 if a change would be made'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand add" -s v -l verbose -d 'Say more on standard error'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand add" -s q -l quiet -d 'Say only errors on standard error'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand add" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand help; and not __fish_seen_subcommand_from show add help" -f -a "show" -d 'Show which GPUs a container has and what is wrong with them'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand help; and not __fish_seen_subcommand_from show add help" -f -a "add" -d 'Give a container GPUs'
complete -c lxc-gpu-conf -n "__fish_lxc_gpu_conf_using_subcommand help; and not __fish_seen_subcommand_from show add help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
