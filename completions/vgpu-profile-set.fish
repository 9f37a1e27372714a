# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_vgpu_profile_set_global_optspecs
    string join \n o/output= root= v/verbose q/quiet h/help V/version
end

function __fish_vgpu_profile_set_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_vgpu_profile_set_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_vgpu_profile_set_using_subcommand
    set -l cmd (__fish_vgpu_profile_set_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_needs_command" -s o -l output -d 'How to print' -r -f -a "auto\t'A table on a terminal, JSON lines in a pipe'
jsonl\t'One JSON object a line'
table\t'Aligned columns'"
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_needs_command" -l root -d 'Work on the machine below DIR instead of /' -r -F
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_needs_command" -s v -l verbose -d 'Say more on standard error'
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_needs_command" -s q -l quiet -d 'Say only errors on standard error'
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_needs_command" -s V -l version -d 'Print version'
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_needs_command" -f -a "list" -d 'Show GPUs, virtual functions and mediated devices with their profiles'
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_needs_command" -f -a "plan" -d 'Show what apply would do'
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_needs_command" -f -a "apply" -d 'Set profiles'
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_needs_command" -f -a "check" -d 'Compare what is set with what is asked for'
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_needs_command" -f -a "clear" -d 'Take profiles away'
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_needs_command" -f -a "watch" -d 'Apply now, when the file changes and when the machine does'
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand list" -l format -d 'Print configuration for somebody else, instead' -r -f -a "kubevirt\t'permittedHostDevices of KubeVirt\'s custom resource'
pve-mapping\t'A resource mapping of Proxmox VE, for /etc/pve/mapping/pci.cfg'"
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand list" -s o -l output -d 'How to print' -r -f -a "auto\t'A table on a terminal, JSON lines in a pipe'
jsonl\t'One JSON object a line'
table\t'Aligned columns'"
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand list" -l root -d 'Work on the machine below DIR instead of /' -r -F
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand list" -l types -d 'The profiles that the GPUs offer, instead'
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand list" -s v -l verbose -d 'Say more on standard error'
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand list" -s q -l quiet -d 'Say only errors on standard error'
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand list" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand plan" -l config -d 'Which configuration of vgpu-device-manager\'s file' -r
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand plan" -s o -l output -d 'How to print' -r -f -a "auto\t'A table on a terminal, JSON lines in a pipe'
jsonl\t'One JSON object a line'
table\t'Aligned columns'"
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand plan" -l root -d 'Work on the machine below DIR instead of /' -r -F
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand plan" -l heterogeneous -d 'Switch GPUs that get several framebuffer sizes to heterogeneous mode'
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand plan" -s v -l verbose -d 'Say more on standard error'
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand plan" -s q -l quiet -d 'Say only errors on standard error'
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand plan" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand apply" -l config -d 'Which configuration of vgpu-device-manager\'s file' -r
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand apply" -s o -l output -d 'How to print' -r -f -a "auto\t'A table on a terminal, JSON lines in a pipe'
jsonl\t'One JSON object a line'
table\t'Aligned columns'"
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand apply" -l root -d 'Work on the machine below DIR instead of /' -r -F
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand apply" -l heterogeneous -d 'Switch GPUs that get several framebuffer sizes to heterogeneous mode'
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand apply" -l skip-in-use -d 'Leave alone what is in use or Proxmox VE\'s own, and do the rest'
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand apply" -s n -l dry-run -d 'Show what would be done and do nothing'
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand apply" -l check -d 'As --dry-run, and exit 1 if a change would be made'
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand apply" -s v -l verbose -d 'Say more on standard error'
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand apply" -s q -l quiet -d 'Say only errors on standard error'
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand apply" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand check" -l config -d 'Which configuration of vgpu-device-manager\'s file' -r
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand check" -l health-file -d 'Answer instead whether a running watch is well, by its health file' -r -F
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand check" -s o -l output -d 'How to print' -r -f -a "auto\t'A table on a terminal, JSON lines in a pipe'
jsonl\t'One JSON object a line'
table\t'Aligned columns'"
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand check" -l root -d 'Work on the machine below DIR instead of /' -r -F
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand check" -l heterogeneous -d 'Switch GPUs that get several framebuffer sizes to heterogeneous mode'
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand check" -l alive -d 'With --health-file: whether it runs at all, well or not'
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand check" -s v -l verbose -d 'Say more on standard error'
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand check" -s q -l quiet -d 'Say only errors on standard error'
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand check" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand clear" -s o -l output -d 'How to print' -r -f -a "auto\t'A table on a terminal, JSON lines in a pipe'
jsonl\t'One JSON object a line'
table\t'Aligned columns'"
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand clear" -l root -d 'Work on the machine below DIR instead of /' -r -F
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand clear" -l all -d 'All of this machine'
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand clear" -l skip-in-use -d 'Leave alone what is in use or Proxmox VE\'s own, and do the rest'
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand clear" -s n -l dry-run -d 'Show what would be done and do nothing'
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand clear" -l check -d 'As --dry-run, and exit 1 if a change would be made'
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand clear" -s v -l verbose -d 'Say more on standard error'
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand clear" -s q -l quiet -d 'Say only errors on standard error'
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand clear" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand watch" -l config -d 'Which configuration of vgpu-device-manager\'s file' -r
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand watch" -l interval -d 'Seconds after which the machine is looked at again' -r
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand watch" -l health-file -d 'Keep a file that says whether all is as asked, for check --health-file' -r -F
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand watch" -s o -l output -d 'How to print' -r -f -a "auto\t'A table on a terminal, JSON lines in a pipe'
jsonl\t'One JSON object a line'
table\t'Aligned columns'"
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand watch" -l root -d 'Work on the machine below DIR instead of /' -r -F
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand watch" -l heterogeneous -d 'Switch GPUs that get several framebuffer sizes to heterogeneous mode'
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand watch" -s v -l verbose -d 'Say more on standard error'
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand watch" -s q -l quiet -d 'Say only errors on standard error'
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand watch" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand help; and not __fish_seen_subcommand_from list plan apply check clear watch help" -f -a "list" -d 'Show GPUs, virtual functions and mediated devices with their profiles'
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand help; and not __fish_seen_subcommand_from list plan apply check clear watch help" -f -a "plan" -d 'Show what apply would do'
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand help; and not __fish_seen_subcommand_from list plan apply check clear watch help" -f -a "apply" -d 'Set profiles'
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand help; and not __fish_seen_subcommand_from list plan apply check clear watch help" -f -a "check" -d 'Compare what is set with what is asked for'
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand help; and not __fish_seen_subcommand_from list plan apply check clear watch help" -f -a "clear" -d 'Take profiles away'
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand help; and not __fish_seen_subcommand_from list plan apply check clear watch help" -f -a "watch" -d 'Apply now, when the file changes and when the machine does'
complete -c vgpu-profile-set -n "__fish_vgpu_profile_set_using_subcommand help; and not __fish_seen_subcommand_from list plan apply check clear watch help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
