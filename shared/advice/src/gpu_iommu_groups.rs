//! Command lines of `gpu-iommu-groups`.
