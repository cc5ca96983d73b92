/* Reads the metadata and the messages of vaeanomaly from C.
 *
 * cc examples/read_meta.c -o read_meta $(pkg-config --cflags --libs gstreamer-1.0 gstreamer-video-1.0)
 * GST_PLUGIN_PATH=target/release ./read_meta street.mp4
 */
#include <gst/gst.h>
#include <gst/video/video.h>

/* All regions of an anomalous frame, the strongest first. */
static void
print_regions (const GstStructure * found)
{
  const GValue *regions = gst_structure_get_value (found, "regions");
  guint i;

  for (i = 0; regions && i < gst_value_array_get_size (regions); i++) {
    const GstStructure *region =
        gst_value_get_structure (gst_value_array_get_value (regions, i));
    guint64 id = 0;
    gdouble score = 0.0;
    guint x = 0, y = 0, width = 0, height = 0;

    gst_structure_get (region, "id", G_TYPE_UINT64, &id, "score", G_TYPE_DOUBLE,
        &score, "x", G_TYPE_UINT, &x, "y", G_TYPE_UINT, &y, "width",
        G_TYPE_UINT, &width, "height", G_TYPE_UINT, &height, NULL);
    g_print ("  region %3" G_GUINT64_FORMAT "  score %.2f  %s  %ux%u at %u,%u\n",
        id, score, gst_structure_get_string (region, "cue"), width, height, x,
        y);
  }
}

/* The scores of a grid over the frame: 1 to 255, 128 at the threshold, 0 = ignored. */
static void
print_map (const GstStructure * found)
{
  const GValue *value = gst_structure_get_value (found, "anomaly-map");
  GstSample *sample = value ? gst_value_get_sample (value) : NULL;
  GstVideoInfo info;
  GstVideoFrame map;
  guint8 highest = 0;
  gint x, y;

  if (!sample || !gst_video_info_from_caps (&info, gst_sample_get_caps (sample))
      || !gst_video_frame_map (&map, &info, gst_sample_get_buffer (sample), GST_MAP_READ))
    return;
  for (y = 0; y < info.height; y++) {
    const guint8 *row = (const guint8 *) GST_VIDEO_FRAME_PLANE_DATA (&map, 0)
        + y * GST_VIDEO_FRAME_PLANE_STRIDE (&map, 0);
    for (x = 0; x < info.width; x++)
      highest = MAX (highest, row[x]);
  }
  g_print ("  map %dx%d  highest %u\n", info.width, info.height, highest);
  gst_video_frame_unmap (&map);
}

static GstPadProbeReturn
on_buffer (GstPad * pad, GstPadProbeInfo * info, gpointer data)
{
  GstBuffer *buffer = GST_PAD_PROBE_INFO_BUFFER (info);
  GstCustomMeta *meta = gst_buffer_get_custom_meta (buffer, "VaeAnomalyMeta");
  (void) pad;
  (void) data;

  if (meta) {
    GstStructure *found = gst_custom_meta_get_structure (meta);
    guint64 frame = 0;
    gdouble score = 0.0;

    gst_structure_get_uint64 (found, "frame", &frame);
    gst_structure_get_double (found, "score", &score);
    g_print ("frame %6" G_GUINT64_FORMAT "  score %.2f  %s\n", frame, score,
        gst_structure_get_string (found, "label"));
    print_regions (found);
    print_map (found);
  }
  return GST_PAD_PROBE_OK;
}

int
main (int argc, char **argv)
{
  GstElement *pipeline, *source, *sink;
  GstPad *pad;
  GstBus *bus;
  GstMessage *message = NULL;
  GError *error = NULL;
  gboolean running = TRUE;
  int status = 0;
  gchar *uri;

  gst_init (&argc, &argv);
  if (argc != 2) {
    g_printerr ("usage: read_meta FILE-OR-URI\n");
    return 2;
  }
  uri = gst_uri_is_valid (argv[1]) ? g_strdup (argv[1])
      : gst_filename_to_uri (argv[1], &error);
  pipeline = error ? NULL : gst_parse_launch ("uridecodebin name=source ! videoconvert "
      "! vaeanomaly attach-map=true ! fakesink name=sink", &error);
  if (error) {
    g_printerr ("%s\n", error->message);
    return 1;
  }
  source = gst_bin_get_by_name (GST_BIN (pipeline), "source");
  g_object_set (source, "uri", uri, NULL);
  sink = gst_bin_get_by_name (GST_BIN (pipeline), "sink");
  pad = gst_element_get_static_pad (sink, "sink");
  gst_pad_add_probe (pad, GST_PAD_PROBE_TYPE_BUFFER, on_buffer, NULL, NULL);

  gst_element_set_state (pipeline, GST_STATE_PLAYING);
  bus = gst_element_get_bus (pipeline);
  while (running) {
    message = gst_bus_timed_pop (bus, GST_CLOCK_TIME_NONE);
    switch (GST_MESSAGE_TYPE (message)) {
      case GST_MESSAGE_ELEMENT:
        if (gst_message_has_name (message, "vaeanomaly")) {
          gchar *text = gst_structure_to_string (gst_message_get_structure (message));
          g_print ("message %s\n", text);
          g_free (text);
        }
        break;
      case GST_MESSAGE_ERROR:
        gst_message_parse_error (message, &error, NULL);
        g_printerr ("%s\n", error->message);
        g_clear_error (&error);
        status = 1;
        running = FALSE;
        break;
      case GST_MESSAGE_EOS:
        running = FALSE;
        break;
      default:
        break;
    }
    gst_message_unref (message);
  }
  gst_element_set_state (pipeline, GST_STATE_NULL);
  gst_object_unref (bus);
  gst_object_unref (pad);
  gst_object_unref (sink);
  gst_object_unref (source);
  gst_object_unref (pipeline);
  g_free (uri);
  return status;
}
