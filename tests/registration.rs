//! The plugin may be registered from several threads at once. One test in a process of its own, because a registration lasts as
//! long as the process.

use std::sync::Barrier;

use gst::glib;

#[test]
fn several_threads_may_register_the_plugin_at_once() {
    gst::init().expect("GStreamer starts");
    glib::log_set_always_fatal(glib::LogLevels::LEVEL_CRITICAL | glib::LogLevels::LEVEL_WARNING);
    let start = Barrier::new(8);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                start.wait();
                gstvaeanomaly::plugin_register_static().expect("the plugin registers");
                for name in ["vaeanomaly", "vaeanomalygate"] {
                    assert!(gst::ElementFactory::find(name).is_some(), "{name} is registered");
                }
            });
        }
    });
}
