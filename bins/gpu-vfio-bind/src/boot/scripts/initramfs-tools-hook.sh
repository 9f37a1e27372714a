#!/bin/sh
PREREQ=""
prereqs() { echo "$PREREQ"; }
case $1 in
prereqs)
	prereqs
	exit 0
	;;
esac

# Written by gpu-vfio-bind.
. /usr/share/initramfs-tools/hook-functions
manual_add_modules vfio vfio_iommu_type1 @DRIVERS@
copy_file config /etc/gpu-vfio-bind.list
