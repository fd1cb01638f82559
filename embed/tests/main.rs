//! The room from outside: ids like `tokenizers`, vectors like the Python references, the same bits for any batch and threads.

mod common;
mod device;
mod golden;
mod invariance;
mod wordpiece;
