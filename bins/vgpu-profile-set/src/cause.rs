//! Why a profile is not set as requested: the list that records and the manual
//! page share.

record::causes! {
    CannotBe "cannot-be" "The requested profile does not fit, or the driver does not offer it.",
    NotSet "not-set" "Another profile is set, or none.",
    LeftAlone "left-alone" "Another profile is set, and apply would skip it: it is in use, or managed by Proxmox VE.",
}
