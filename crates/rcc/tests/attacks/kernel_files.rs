//! kernel_files
