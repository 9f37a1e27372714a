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

complete -c nv-runfile -n "__fish_nv_runfile_needs_command" -s o -l output -d 'How to print' -r -f -a "auto\t'A table on a terminal, JSON lines in a pipe'
jsonl\t'One JSON object a line'
table\t'Aligned columns'"
complete -c nv-runfile -n "__fish_nv_runfile_needs_command" -l root -d 'Work on the machine below DIR instead of /' -r -F
complete -c nv-runfile -n "__fish_nv_runfile_needs_command" -s v -l verbose -d 'Say more on standard error'
complete -c nv-runfile -n "__fish_nv_runfile_needs_command" -s q -l quiet -d 'Say only errors on standard error'
complete -c nv-runfile -n "__fish_nv_runfile_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c nv-runfile -n "__fish_nv_runfile_needs_command" -s V -l version -d 'Print version'
complete -c nv-runfile -n "__fish_nv_runfile_needs_command" -f -a "info" -d 'Show what an installer is'
complete -c nv-runfile -n "__fish_nv_runfile_needs_command" -f -a "verify" -d 'Compute every digest that an installer carries, and compare'
complete -c nv-runfile -n "__fish_nv_runfile_needs_command" -f -a "list" -d 'List what an installer holds'
complete -c nv-runfile -n "__fish_nv_runfile_needs_command" -f -a "extract" -d 'Unpack an installer into a directory that is not there yet'
complete -c nv-runfile -n "__fish_nv_runfile_needs_command" -f -a "install" -d 'Install a driver: its userspace into a container or for containers, or on the host'
complete -c nv-runfile -n "__fish_nv_runfile_needs_command" -f -a "uninstall" -d 'Take away what install placed into a container'
complete -c nv-runfile -n "__fish_nv_runfile_needs_command" -f -a "toolkit" -d 'Have CUDA\'s toolkit installed in a container'
complete -c nv-runfile -n "__fish_nv_runfile_needs_command" -f -a "fetch" -d 'Bring an installer into the cache: found, downloaded, verified'
complete -c nv-runfile -n "__fish_nv_runfile_needs_command" -f -a "prune" -d 'Take installers out of the cache'
complete -c nv-runfile -n "__fish_nv_runfile_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand info" -l for -d 'Does it drive this function (41:00.0), slot or group of this machine? \'-\' reads pci-device records from standard input' -r
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand info" -s o -l output -d 'How to print' -r -f -a "auto\t'A table on a terminal, JSON lines in a pipe'
jsonl\t'One JSON object a line'
table\t'Aligned columns'"
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand info" -l root -d 'Work on the machine below DIR instead of /' -r -F
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand info" -s c -l contents -d 'Look inside as well: manifest, types of kernel modules, GPUs, nested installers'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand info" -s v -l verbose -d 'Say more on standard error'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand info" -s q -l quiet -d 'Say only errors on standard error'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand info" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand verify" -l sha256 -d 'What SHA-256 the file must have' -r
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand verify" -s o -l output -d 'How to print' -r -f -a "auto\t'A table on a terminal, JSON lines in a pipe'
jsonl\t'One JSON object a line'
table\t'Aligned columns'"
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand verify" -l root -d 'Work on the machine below DIR instead of /' -r -F
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand verify" -s v -l verbose -d 'Say more on standard error'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand verify" -s q -l quiet -d 'Say only errors on standard error'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand verify" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand list" -l max-size -d 'Refuse more bytes than this in all; K, M, G and T are understood' -r
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand list" -l max-entries -d 'Refuse more members than this' -r
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand list" -s o -l output -d 'How to print' -r -f -a "auto\t'A table on a terminal, JSON lines in a pipe'
jsonl\t'One JSON object a line'
table\t'Aligned columns'"
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand list" -l root -d 'Work on the machine below DIR instead of /' -r -F
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand list" -s v -l verbose -d 'Say more on standard error'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand list" -s q -l quiet -d 'Say only errors on standard error'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand list" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand extract" -l sha256 -d 'What SHA-256 the file must have' -r
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand extract" -l owner -d 'Who shall own what is unpacked: numbers, or \'archive\' for what the archive says; by default whoever runs this' -r
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand extract" -l umask -d 'Permissions to take away, in octal; the default takes set-id and sticky bits, 0 nothing' -r
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand extract" -l max-size -d 'Refuse more bytes than this in all; K, M, G and T are understood' -r
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand extract" -l max-entries -d 'Refuse more members than this' -r
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand extract" -s o -l output -d 'How to print' -r -f -a "auto\t'A table on a terminal, JSON lines in a pipe'
jsonl\t'One JSON object a line'
table\t'Aligned columns'"
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand extract" -l root -d 'Work on the machine below DIR instead of /' -r -F
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand extract" -l force -d 'Unpack it although a digest is wrong'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand extract" -s n -l dry-run -d 'Show what would be done and do nothing'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand extract" -l check -d 'As --dry-run, and exit 1 if a change would be made'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand extract" -s v -l verbose -d 'Say more on standard error'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand extract" -s q -l quiet -d 'Say only errors on standard error'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand extract" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand install" -l ct -d 'Into this container, running or stopped' -r
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand install" -l share -d 'Into a directory that is not there yet, for \'lxc-gpu-conf add --share-driver DIR\'' -r -F
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand install" -l mode -d 'How it gets into a container' -r -f -a "unpack\t'Place the files of its manifest from outside'
installer\t'Run the installer inside, without kernel modules'"
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand install" -l set -d 'What programs in the container are to do' -r -f -a "compute\t'CUDA and OpenCL'
utility\t'nvidia-smi and NVML'
video\t'Encoding and decoding'
graphics\t'OpenGL, Vulkan, ray tracing'"
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand install" -l sha256 -d 'What SHA-256 the file must have' -r
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand install" -l max-size -d 'Refuse more bytes than this in all; K, M, G and T are understood' -r
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand install" -l max-entries -d 'Refuse more members than this' -r
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand install" -s o -l output -d 'How to print' -r -f -a "auto\t'A table on a terminal, JSON lines in a pipe'
jsonl\t'One JSON object a line'
table\t'Aligned columns'"
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand install" -l root -d 'Work on the machine below DIR instead of /' -r -F
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand install" -l host -d 'On this host: runs the installer, after a pre-flight'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand install" -l purge -d 'With --host: remove packages and DKMS modules of another packaging first; --dry-run shows which'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand install" -l dkms -d 'With --host: build the kernel modules with DKMS, so that new kernels get them; the default where dkms is there'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand install" -l no-dkms -d 'With --host: build them for the running kernel only'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand install" -l force -d 'Install a version other than the loaded kernel module\'s; replace files of ours that were changed; run the installer on a host that is not ready'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand install" -s n -l dry-run -d 'Show what would be done and do nothing'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand install" -l check -d 'As --dry-run, and exit 1 if a change would be made'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand install" -s v -l verbose -d 'Say more on standard error'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand install" -s q -l quiet -d 'Say only errors on standard error'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand install" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand uninstall" -l ct -d 'From this container, running or stopped' -r
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand uninstall" -s o -l output -d 'How to print' -r -f -a "auto\t'A table on a terminal, JSON lines in a pipe'
jsonl\t'One JSON object a line'
table\t'Aligned columns'"
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand uninstall" -l root -d 'Work on the machine below DIR instead of /' -r -F
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand uninstall" -l force -d 'Remove files of ours that were changed since, too'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand uninstall" -s n -l dry-run -d 'Show what would be done and do nothing'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand uninstall" -l check -d 'As --dry-run, and exit 1 if a change would be made'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand uninstall" -s v -l verbose -d 'Say more on standard error'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand uninstall" -s q -l quiet -d 'Say only errors on standard error'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand uninstall" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand toolkit" -l ct -d 'In this container, which must run' -r
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand toolkit" -l cuda -d 'Which release of CUDA, such as 12-8 or 12.8' -r
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand toolkit" -l runfile -d 'Run the toolkit part of this CUDA .run inside instead' -r -F
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand toolkit" -l sha256 -d 'With --runfile: what SHA-256 the file must have' -r
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand toolkit" -l repo-url -d 'The repository for the container\'s distribution, as the container reaches it, in place of NVIDIA\'s' -r
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand toolkit" -l key -d 'The repository\'s signing key; by default NVIDIA\'s is fetched from the repository and held against its known fingerprint' -r -F
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand toolkit" -l retries -d 'Try again this often after an attempt that brought nothing' -r
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand toolkit" -l retry-delay -d 'Wait this long before the first of them, then twice as long each time' -r
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand toolkit" -l connect-timeout -d 'Give a connection this long to come about' -r
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand toolkit" -l stall-timeout -d 'Break off where this long less than 1 kB/s comes in' -r
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand toolkit" -s o -l output -d 'How to print' -r -f -a "auto\t'A table on a terminal, JSON lines in a pipe'
jsonl\t'One JSON object a line'
table\t'Aligned columns'"
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand toolkit" -l root -d 'Work on the machine below DIR instead of /' -r -F
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand toolkit" -l remove -d 'Take away what this verb wrote into the container; installed packages stay'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand toolkit" -l force -d 'Install a toolkit that the loaded driver is too old for; replace or remove files that are not as this verb wrote them'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand toolkit" -s n -l dry-run -d 'Show what would be done and do nothing'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand toolkit" -l check -d 'As --dry-run, and exit 1 if a change would be made'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand toolkit" -s v -l verbose -d 'Say more on standard error'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand toolkit" -s q -l quiet -d 'Say only errors on standard error'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand toolkit" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand fetch" -l arch -d 'Architecture; by default this machine\'s' -r -f -a "x86_64\t''
aarch64\t''
ppc64le\t''
x86\t''"
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand fetch" -l mirror -d 'Look below this URL instead of NVIDIA\'s servers; more than one in this order' -r
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand fetch" -l url -d 'Get the version from exactly this URL' -r
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand fetch" -l cache -d 'Where it is kept' -r -F
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand fetch" -l sha256 -d 'What SHA-256 it must have' -r
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand fetch" -l pin -d 'A file of SHA-256 in the form of sha256sum(1), which must name it' -r -F
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand fetch" -l retries -d 'Try again this often after an attempt that brought nothing' -r
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand fetch" -l retry-delay -d 'Wait this long before the first of them, then twice as long each time' -r
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand fetch" -l connect-timeout -d 'Give a connection this long to come about' -r
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand fetch" -l stall-timeout -d 'Break off where this long less than 1 kB/s comes in' -r
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand fetch" -s o -l output -d 'How to print' -r -f -a "auto\t'A table on a terminal, JSON lines in a pipe'
jsonl\t'One JSON object a line'
table\t'Aligned columns'"
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand fetch" -l root -d 'Work on the machine below DIR instead of /' -r -F
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand fetch" -l no-compat32 -d 'The installer without 32-bit libraries, where NVIDIA publishes one'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand fetch" -l unverified -d 'Keep it although no SHA-256 is known: only its own digests vouch for it'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand fetch" -l verify -d 'Compute the digest of a cached file anew'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand fetch" -l offline -d 'Touch no network'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand fetch" -s n -l dry-run -d 'Show what would be done and do nothing'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand fetch" -l check -d 'As --dry-run, and exit 1 if a change would be made'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand fetch" -s v -l verbose -d 'Say more on standard error'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand fetch" -s q -l quiet -d 'Say only errors on standard error'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand fetch" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand prune" -l keep -d 'Keep the newest NUMBER versions of each kind and architecture, remove older ones' -r
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand prune" -l keep-version -d 'Keep this version whatever else is said; more than one' -r
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand prune" -l older-than -d 'Remove what was fetched more than DAYS ago; with --keep only of what that would remove' -r
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand prune" -l cache -d 'Where they are kept' -r -F
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand prune" -s o -l output -d 'How to print' -r -f -a "auto\t'A table on a terminal, JSON lines in a pipe'
jsonl\t'One JSON object a line'
table\t'Aligned columns'"
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand prune" -l root -d 'Work on the machine below DIR instead of /' -r -F
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand prune" -l keep-partial -d 'Leave downloads that were broken off: fetch goes on with them'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand prune" -s n -l dry-run -d 'Show what would be done and do nothing'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand prune" -l check -d 'As --dry-run, and exit 1 if a change would be made'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand prune" -s v -l verbose -d 'Say more on standard error'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand prune" -s q -l quiet -d 'Say only errors on standard error'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand prune" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand help; and not __fish_seen_subcommand_from info verify list extract install uninstall toolkit fetch prune help" -f -a "info" -d 'Show what an installer is'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand help; and not __fish_seen_subcommand_from info verify list extract install uninstall toolkit fetch prune help" -f -a "verify" -d 'Compute every digest that an installer carries, and compare'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand help; and not __fish_seen_subcommand_from info verify list extract install uninstall toolkit fetch prune help" -f -a "list" -d 'List what an installer holds'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand help; and not __fish_seen_subcommand_from info verify list extract install uninstall toolkit fetch prune help" -f -a "extract" -d 'Unpack an installer into a directory that is not there yet'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand help; and not __fish_seen_subcommand_from info verify list extract install uninstall toolkit fetch prune help" -f -a "install" -d 'Install a driver: its userspace into a container or for containers, or on the host'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand help; and not __fish_seen_subcommand_from info verify list extract install uninstall toolkit fetch prune help" -f -a "uninstall" -d 'Take away what install placed into a container'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand help; and not __fish_seen_subcommand_from info verify list extract install uninstall toolkit fetch prune help" -f -a "toolkit" -d 'Have CUDA\'s toolkit installed in a container'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand help; and not __fish_seen_subcommand_from info verify list extract install uninstall toolkit fetch prune help" -f -a "fetch" -d 'Bring an installer into the cache: found, downloaded, verified'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand help; and not __fish_seen_subcommand_from info verify list extract install uninstall toolkit fetch prune help" -f -a "prune" -d 'Take installers out of the cache'
complete -c nv-runfile -n "__fish_nv_runfile_using_subcommand help; and not __fish_seen_subcommand_from info verify list extract install uninstall toolkit fetch prune help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
