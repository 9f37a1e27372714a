complete -c gpu-iommu-groups -l vendor -d 'Only functions of this vendor (10de)' -r
complete -c gpu-iommu-groups -l class -d 'Only functions of this class, or of classes that begin so (03, 0302)' -r
complete -c gpu-iommu-groups -l driver -d 'Only functions bound to this driver; \'none\' for those without one' -r
complete -c gpu-iommu-groups -s o -l output -d 'How to print' -r -f -a "auto\t'A table on a terminal, JSON lines in a pipe'
jsonl\t'One JSON object a line'
table\t'Aligned columns'
tree\t'The PCI topology from root port to function, for eyes'"
complete -c gpu-iommu-groups -l root -d 'Work on the machine below DIR instead of /' -r -F
complete -c gpu-iommu-groups -s a -l all -d 'Every PCI function of the machine'
complete -c gpu-iommu-groups -s g -l groups -d 'Print a record for each IOMMU group instead of each function'
complete -c gpu-iommu-groups -l check -d 'Check that every selected GPU could be passed through; exit 1 if not'
complete -c gpu-iommu-groups -s v -l verbose -d 'Say more on standard error'
complete -c gpu-iommu-groups -s q -l quiet -d 'Say only errors on standard error'
complete -c gpu-iommu-groups -s h -l help -d 'Print help (see more with \'--help\')'
complete -c gpu-iommu-groups -s V -l version -d 'Print version'
