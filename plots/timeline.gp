# description: passes and communication of each stage on a time axis; of two results, predicted over measured
# data: timeline
width = 1200
load ARG4.".var"
height = 130 + n_results * (40 + 22 * n_rows)
call ARG1 ARG2 ARG3 ARG4

array colours[5] = [sky, orange, green, purple, grey]
array names[5] = ["forward", "backward", "weight gradients", "optimizer", "communication, with waiting"]
y(stage, stream) = n_rows - row[int(stage) * n_streams + int(stream) + 1] + 0.5
labelled(which, colour, mb, ms) = which == r - 1 && colour >= 5 && mb >= 0 && ms > 0.014 * end_ms
half(stream) = stream == 0 ? 0.42 : 0.30

set xrange [0:end_ms]
set yrange [0:n_rows]
set ytics ()
do for [i = 1:n_rows] { set ytics add (row_name[i] n_rows - i + 0.5) }
set ytics scale 0
unset grid
set border 1
set lmargin 20
set rmargin 3

top = 1.0 - 45.0 / height
panel = (top - 45.0 / height) / n_results
set multiplot
do for [r = 1:n_results] {
    set tmargin at screen top - (r - 1) * panel - 28.0 / height
    set bmargin at screen top - r * panel + 12.0 / height
    set title title[r] offset 0,-0.6
    if (r == n_results) { set xlabel "time (ms)"; set format x "%g" } else { unset xlabel; set format x "" }
    if (r == 1) { set key at screen 0.5, 1.0 - 8.0 / height center top } else { unset key }
    set arrow 1 from step_ms[r], 0 to step_ms[r], n_rows nohead linewidth 1 linecolor rgb black dashtype 3
    plot for [c = 1:4] base.".dat" using \
        ($1 == r - 1 && $6 == c + 4 ? 0.5 * ($4 + $5) : NaN):(y($2, $3)):(0.5 * ($5 - $4)):(half($3)) \
        with boxxyerror fillstyle transparent solid 0.3 noborder linecolor rgb colours[c] notitle, \
        for [c = 1:5] base.".dat" using \
        ($1 == r - 1 && $6 == c - 1 ? 0.5 * ($4 + $5) : NaN):(y($2, $3)):(0.5 * ($5 - $4)):(half($3)) \
        with boxxyerror linecolor rgb colours[c] title names[c], \
        base.".dat" using (labelled($1, $6, $7, $5 - $4) ? 0.5 * ($4 + $5) : NaN):(y($2, $3)):7 \
        with labels font font_name.",8" textcolor rgb black notitle
}
unset multiplot
