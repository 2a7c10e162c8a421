//! Input and output into pooled buffers.
//!
//! - [`echo`]: an echo server of tokio's, with more connections than buffers
//! - [`uring`]: a file read by io_uring into a pinned pool, whose memory the kernel knows

pub mod echo;
#[cfg(target_os = "linux")]
pub mod uring;
