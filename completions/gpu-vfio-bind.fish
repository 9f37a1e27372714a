# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_gpu_vfio_bind_global_optspecs
    string join \n o/output= root= v/verbose q/quiet h/help V/version
end

function __fish_gpu_vfio_bind_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_gpu_vfio_bind_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_gpu_vfio_bind_using_subcommand
    set -l cmd (__fish_gpu_vfio_bind_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_needs_command" -s o -l output -d 'How to print' -r -f -a "auto\t'A table on a terminal, JSON lines in a pipe'
jsonl\t'One JSON object a line'
table\t'Aligned columns'"
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_needs_command" -l root -d 'Work on the machine below DIR instead of /' -r -F
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_needs_command" -s v -l verbose -d 'Say more on standard error'
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_needs_command" -s q -l quiet -d 'Say only errors on standard error'
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_needs_command" -s V -l version -d 'Print version'
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_needs_command" -f -a "bind" -d 'Move slots to vfio-pci, for a VM'
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_needs_command" -f -a "release" -d 'Give slots back to the host\'s drivers'
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_needs_command" -f -a "persist" -d 'Move slots to vfio-pci at every boot, from the initramfs on'
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_needs_command" -f -a "unpersist" -d 'Take slots out of what is moved at boot'
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_needs_command" -f -a "status" -d 'Show which driver functions have, and which they will have after a boot'
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand bind" -l driver -d 'VFIO driver: its name, or \'auto\' for the variant that claims the function most exactly by modules.alias' -r
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand bind" -l timeout -d 'Seconds to wait for one unbind or bind before giving up' -r
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand bind" -s o -l output -d 'How to print' -r -f -a "auto\t'A table on a terminal, JSON lines in a pipe'
jsonl\t'One JSON object a line'
table\t'Aligned columns'"
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand bind" -l root -d 'Work on the machine below DIR instead of /' -r -F
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand bind" -l group -d 'Also move all other endpoints of the slots\' IOMMU groups'
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand bind" -l stop-persistenced -d 'Stop nvidia-persistenced where it holds a GPU; it is started again if anything fails'
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand bind" -l force -d 'Go on where a refusal says that --force overrides it'
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand bind" -s n -l dry-run -d 'Show what would be done and do nothing'
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand bind" -l check -d 'As --dry-run, and exit 1 if a change would be made'
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand bind" -s v -l verbose -d 'Say more on standard error'
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand bind" -s q -l quiet -d 'Say only errors on standard error'
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand bind" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand release" -l to -d 'Give all functions to this driver instead' -r
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand release" -l timeout -d 'Seconds to wait for one unbind or bind before giving up' -r
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand release" -s o -l output -d 'How to print' -r -f -a "auto\t'A table on a terminal, JSON lines in a pipe'
jsonl\t'One JSON object a line'
table\t'Aligned columns'"
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand release" -l root -d 'Work on the machine below DIR instead of /' -r -F
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand release" -s n -l dry-run -d 'Show what would be done and do nothing'
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand release" -l check -d 'As --dry-run, and exit 1 if a change would be made'
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand release" -s v -l verbose -d 'Say more on standard error'
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand release" -s q -l quiet -d 'Say only errors on standard error'
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand release" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand persist" -l by -d 'How the functions are recognised at boot' -r -f -a "address\t'By its address, if its ids are still the same; else it is left alone'
id\t'By its ids, wherever it is: every identical card'"
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand persist" -l driver -d 'VFIO driver: its name, or \'auto\' for the variant that claims the function most exactly by modules.alias' -r
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand persist" -s o -l output -d 'How to print' -r -f -a "auto\t'A table on a terminal, JSON lines in a pipe'
jsonl\t'One JSON object a line'
table\t'Aligned columns'"
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand persist" -l root -d 'Work on the machine below DIR instead of /' -r -F
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand persist" -l cmdline -d 'Also put what the IOMMU needs into the kernel command line, where it is off and the kernel does not switch it on by itself'
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand persist" -l blacklist -d 'Also keep nouveau and nvidiafb from being loaded, unless another card needs them'
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand persist" -l force -d 'Go on where a refusal says that --force overrides it'
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand persist" -s n -l dry-run -d 'Show what would be done and do nothing'
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand persist" -l check -d 'As --dry-run, and exit 1 if a change would be made'
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand persist" -s v -l verbose -d 'Say more on standard error'
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand persist" -s q -l quiet -d 'Say only errors on standard error'
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand persist" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand unpersist" -s o -l output -d 'How to print' -r -f -a "auto\t'A table on a terminal, JSON lines in a pipe'
jsonl\t'One JSON object a line'
table\t'Aligned columns'"
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand unpersist" -l root -d 'Work on the machine below DIR instead of /' -r -F
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand unpersist" -l all -d 'All that is moved at boot'
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand unpersist" -s n -l dry-run -d 'Show what would be done and do nothing'
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand unpersist" -l check -d 'As --dry-run, and exit 1 if a change would be made'
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand unpersist" -s v -l verbose -d 'Say more on standard error'
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand unpersist" -s q -l quiet -d 'Say only errors on standard error'
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand unpersist" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand status" -s o -l output -d 'How to print' -r -f -a "auto\t'A table on a terminal, JSON lines in a pipe'
jsonl\t'One JSON object a line'
table\t'Aligned columns'"
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand status" -l root -d 'Work on the machine below DIR instead of /' -r -F
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand status" -s v -l verbose -d 'Say more on standard error'
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand status" -s q -l quiet -d 'Say only errors on standard error'
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand status" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand help; and not __fish_seen_subcommand_from bind release persist unpersist status help" -f -a "bind" -d 'Move slots to vfio-pci, for a VM'
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand help; and not __fish_seen_subcommand_from bind release persist unpersist status help" -f -a "release" -d 'Give slots back to the host\'s drivers'
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand help; and not __fish_seen_subcommand_from bind release persist unpersist status help" -f -a "persist" -d 'Move slots to vfio-pci at every boot, from the initramfs on'
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand help; and not __fish_seen_subcommand_from bind release persist unpersist status help" -f -a "unpersist" -d 'Take slots out of what is moved at boot'
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand help; and not __fish_seen_subcommand_from bind release persist unpersist status help" -f -a "status" -d 'Show which driver functions have, and which they will have after a boot'
complete -c gpu-vfio-bind -n "__fish_gpu_vfio_bind_using_subcommand help; and not __fish_seen_subcommand_from bind release persist unpersist status help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
