#!/bin/bash
# Written by gpu-vfio-bind.

check() {
	return 0
}

installkernel() {
	hostonly='' instmods vfio vfio_iommu_type1 @DRIVERS@
}

install() {
	inst_simple /etc/gpu-vfio-bind.list
	inst_hook pre-udev 10 "${moddir:?}/gpu-vfio-bind.sh"
}
