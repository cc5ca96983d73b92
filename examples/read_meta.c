/* Reads the metadata and the messages of vaeanomaly from C.
 *
 * cc examples/read_meta.c -o read_meta $(pkg-config --cflags --libs gstreamer-1.0)
 * GST_PLUGIN_PATH=target/release ./read_meta street.mp4
 */
#include <gst/gst.h>

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
      "! vaeanomaly ! fakesink name=sink", &error);
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
