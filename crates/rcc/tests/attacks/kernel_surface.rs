//! kernel_surface
