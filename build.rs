#[cfg(feature = "cuda")]
#[path = "src/cuda_link/build.rs"]
mod cuda_link;

fn main() {
    gst_plugin_version_helper::info();
    #[cfg(feature = "cuda")]
    cuda_link::build();
}
