# Turns labels.csv into the file that `evaluate --accept` reads: one event of the kind KIND for every run of frames labelled 1.
#
# usage: awk -v kind=KIND -f events.awk labels.csv
BEGIN {
    FS = OFS = ","
    print "clip", "kind", "first_frame", "last_frame"
}
function finish() {
    if (clip != "") print clip, kind, first, last
    clip = ""
}
{ sub(/\r$/, "") }
$3 == 1 {
    if ($1 != clip || $2 != last + 1) {
        finish()
        clip = $1
        first = $2
    }
    last = $2
    next
}
{ finish() }
END { finish() }
