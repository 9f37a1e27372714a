//! What keeps a driver from being installed on a host, or from working there
//! afterwards: the list that records and the manual page share.

record::causes! {
    NoHeaders "no-headers" "A kernel's headers are not installed: its module cannot be built.",
    KernelTooNew "kernel-too-new" "The driver's module is known not to build for a kernel.",
    NoCompiler "no-compiler" "The compiler or make is missing.",
    NoDkms "no-dkms" "DKMS was asked for and is not installed.",
    Nouveau "nouveau" "nouveau is loaded, or nothing keeps it from being loaded at the next boot.",
    Packages "packages" "The driver is there in another packaging.",
    Loaded "loaded" "A module of the driver is loaded, and this installer does not install beside it.",
    SecureBoot "secure-boot" "Secure Boot is on: the kernel would refuse modules that nobody signed.",
    NoType "no-type" "No type of kernel modules in this installer drives all GPUs of the host.",
    RebootRequired "reboot-required" "The new module is installed and not loaded.",
}
