//! The labelled scene: independent of the frame rate, always moving, with correct ground truth.

use std::collections::HashSet;

use street_scene::scene::{Config, Kind, Labels, Scene};

fn config() -> Config {
    Config {
        width: 320,
        height: 180,
        seed: 3,
        lead_in: 4.0,
        spacing: 4.0,
        ..Config::default()
    }
}

fn scene(config: &Config) -> Scene {
    Scene::new(config).expect("the configuration is valid")
}

/// Mean absolute difference of two images in 8-bit levels.
fn difference(a: &[u8], b: &[u8]) -> f64 {
    let sum: u64 = a.iter().zip(b).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
    sum as f64 / a.len() as f64
}

#[test]
fn the_same_seed_gives_the_same_images_in_any_order() {
    let (mut a, mut b) = (scene(&config()), scene(&config()));
    let later = a.render(7.3).to_vec();
    b.render(1.0);
    assert!(
        later == b.render(7.3),
        "the image depends on what was rendered before"
    );
    let mut other = scene(&Config { seed: 4, ..config() });
    assert!(
        difference(&later, other.render(7.3)) > 1.0,
        "another seed gives the same image"
    );
}

#[test]
fn the_street_moves_all_the_time() {
    let mut quiet = scene(&Config {
        noise: 0.0,
        ..config()
    });
    for second in 0..4 {
        let now = quiet.render(f64::from(second)).to_vec();
        let moved = difference(&now, quiet.render(f64::from(second) + 0.1));
        assert!(
            (0.05..6.0).contains(&moved),
            "second {second}: difference {moved}"
        );
    }
}

#[test]
fn labels_do_not_depend_on_the_frame_rate() {
    let scene = scene(&config());
    let (slow, fast) = (Labels::new(&scene, 10.0), Labels::new(&scene, 30.0));
    assert_eq!(slow.events.len(), 6);
    for (a, b) in slow.events.iter().zip(&fast.events) {
        assert_eq!(a.kind, b.kind);
        assert!(a.first_frame.abs_diff(b.first_frame / 3) <= 1, "{a:?} {b:?}");
        assert!(a.last_frame.abs_diff(b.last_frame / 3) <= 1, "{a:?} {b:?}");
    }
    let third: Vec<bool> = fast.frames.iter().copied().step_by(3).collect();
    assert_eq!(slow.frames, third[..slow.frames.len()]);
}

#[test]
fn every_kind_is_visible_for_a_while_after_the_lead_in() {
    let scene = scene(&config());
    let labels = Labels::new(&scene, 10.0);
    let kinds: HashSet<Kind> = labels.events.iter().map(|event| event.kind).collect();
    assert_eq!(kinds.len(), Kind::ALL.len());
    assert!(
        !labels.frames[..40].contains(&true),
        "an anomaly within the lead-in"
    );
    for event in &labels.events {
        let frames = event.last_frame - event.first_frame + 1;
        assert!(frames >= 12, "{event:?} lasts {frames} frames");
        let region = event.region;
        assert!(region.left >= 0.0 && region.right <= 320.0 && region.top >= 0.0 && region.bottom <= 180.0);
        assert!(region.area() > 60.0, "{event:?} covers {} pixels", region.area());
    }
    let labelled = labels.frames.iter().filter(|label| **label).count() as u64;
    let spans: u64 = labels
        .events
        .iter()
        .map(|e| e.last_frame - e.first_frame + 1)
        .sum();
    assert_eq!(labelled, spans, "events overlap or are interrupted");
}

/// The labelled box is where the image differs from the same street without anomalies.
#[test]
fn the_region_of_an_anomaly_is_where_the_image_differs() {
    let quiet = |events| Config {
        noise: 0.0,
        events,
        kinds: vec![Kind::Trespasser],
        duration: Some(30.0),
        ..config()
    };
    let (mut with, mut without) = (scene(&quiet(1)), scene(&quiet(0)));
    let event = Labels::new(&with, 10.0).events[0];
    let time = (event.first_frame + event.last_frame) as f64 / 20.0;
    let a = with.render(time).to_vec();
    let b = without.render(time);
    let changed: Vec<(f32, f32)> = (0..320 * 180)
        .filter(|i| difference(&a[4 * i..4 * i + 3], &b[4 * i..4 * i + 3]) > 25.0)
        .map(|i| ((i % 320) as f32, (i / 320) as f32))
        .collect();
    assert!(changed.len() > 60, "{} pixels differ", changed.len());
    let region = event.region;
    let near = changed.iter().filter(|(x, y)| {
        (region.left - 3.0..region.right + 3.0).contains(x)
            && (region.top - 3.0..region.bottom + 3.0).contains(y)
    });
    assert!(
        near.count() * 10 > changed.len() * 6,
        "the person is not in {region:?}"
    );
}

#[test]
fn csv_files_have_the_documented_columns() {
    let labels = Labels::new(&scene(&config()), 10.0);
    let frames = labels.frames_csv("street");
    assert_eq!(frames.lines().next(), Some("clip,frame,label"));
    assert_eq!(frames.lines().count(), labels.frames.len() + 1);
    assert_eq!(frames.lines().nth(1), Some("street,0,0"));
    let boxes = labels.boxes_csv("street");
    assert_eq!(boxes.lines().next(), Some("clip,frame,x,y,w,h"));
    let anomalous = labels.frames.iter().filter(|label| **label).count();
    assert_eq!(boxes.lines().count(), anomalous + 1);
    let events = labels.events_csv("street");
    assert!(
        events.lines().skip(1).all(|line| line.split(',').count() == 9),
        "{events}"
    );
}

#[test]
fn errors_of_the_configuration_name_value_and_range() {
    let error = |config: Config| Scene::new(&config).err().expect("an error");
    let reason = error(Config {
        width: 20,
        ..config()
    });
    assert!(reason.contains("64x36") && reason.contains("20x180"), "{reason}");
    let reason = error(Config {
        duration: Some(10.0),
        ..config()
    });
    assert!(
        reason.contains("6 anomalies need at least") && reason.contains("10 s"),
        "{reason}"
    );
}
