complete -c nv-version-check -l ct -d 'Look at this container of Proxmox VE, running or stopped; may be repeated' -r
complete -c nv-version-check -l rootfs -d 'Look at the root file system below DIR; may be repeated' -r -F
complete -c nv-version-check -l pin -d 'The version that everything must have; \'-\' reads it, or a runfile record, from standard input' -r
complete -c nv-version-check -l prometheus-file -d 'Write the metrics to FILE, replaced as a whole, for the textfile collector of Prometheus\' node exporter' -r -F
complete -c nv-version-check -s o -l output -l format -d 'How to print' -r -f -a "auto\t'A table on a terminal, JSON lines in a pipe'
jsonl\t'One JSON object a line'
table\t'Aligned columns'
prometheus\t'Metrics: to standard output, or with --prometheus-file nowhere else'"
complete -c nv-version-check -l root -d 'Work on the machine below DIR instead of /' -r -F
complete -c nv-version-check -s a -l all-cts -d 'Look at all containers of this node that have the driver or are given a GPU'
complete -c nv-version-check -l no-host -d 'Judge only these, not the host\'s own kernels and libraries'
complete -c nv-version-check -l cuda -d 'Look at CUDA toolkits and libraries for forward compatibility too'
complete -c nv-version-check -l next-boot -d 'Compare with the module that the next boot loads instead of the loaded one'
complete -c nv-version-check -l xid -d 'Decode the Xid errors that the driver logged since the host booted'
complete -c nv-version-check -l problems -d 'Print only what is not as it should be'
complete -c nv-version-check -s v -l verbose -d 'Say more on standard error'
complete -c nv-version-check -s q -l quiet -d 'Say only errors on standard error'
complete -c nv-version-check -s h -l help -d 'Print help (see more with \'--help\')'
complete -c nv-version-check -s V -l version -d 'Print version'
