//! Causes of the pre-flight check, for records and the manual page.

record::causes! {
    NoHeaders "no-headers" "A kernel's headers are not installed, so its module cannot be built.",
    KernelTooNew "kernel-too-new" "The driver's kernel module does not build for a kernel.",
    NoCompiler "no-compiler" "The compiler or make is missing.",
    NoDkms "no-dkms" "DKMS is requested but not installed.",
    Nouveau "nouveau" "nouveau is loaded, or is not blacklisted and may be loaded at the next boot.",
    Packages "packages" "A driver is already installed by other means.",
    Loaded "loaded" "A kernel module of the driver is loaded, and this installer needs it to be unloaded.",
    SecureBoot "secure-boot" "Secure Boot is on, so the kernel refuses modules without a valid signature.",
    NoType "no-type" "No type of kernel modules in this installer supports all GPUs of the host.",
    RebootRequired "reboot-required" "The new kernel module is installed but not loaded.",
}
