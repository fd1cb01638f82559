//! What a service needs of a plan: rows that can be read one by one, in what shape a trainer wants them, the columns a method
//! reads of its candidates, and a method's state as bytes.

mod corpus;
mod keywords;
mod render;
mod rowfile;
mod state;
mod survey;

pub use corpus::{Candidates, Corpus, CorpusMeta, candidates, online_method, prepare_corpus};
pub use render::{Rendering, RowRenderer};
pub use rowfile::RowFile;
pub use state::{pack_state, unpack_state};
pub use survey::{GroupWords, Groups, Survey, score_histogram, survey};
