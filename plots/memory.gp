# description: memory of the largest rank over the step by class, with the limit
# data: memory
width = 1000
height = 480
load ARG4.".var"
call ARG1 ARG2 ARG3 ARG4

array colours[7] = [grey, blue, sky, green, orange, purple, yellow]
set title heading
set xlabel "time (ms), after each pass"
set ylabel "memory (GB)"
set key outside right top vertical Left reverse invert samplen 1.5
set yrange [0:1.08 * (limit > peak ? limit : peak)]
set xrange [0:*]
set autoscale xfixmax
set label 1 sprintf("peak %.1f GB", peak) at graph 0.01, first peak offset 0,0.8 textcolor rgb black front
if (limit > 0) {
    set label 2 sprintf("limit %.1f GB", limit) at graph 0.99, first limit right offset 0,0.8 \
        textcolor rgb vermillion front
}
plot for [c = 1:7] base.".dat" using 1:(c == 1 ? 0 : column(c)):(column(c + 1)) with filledcurves \
        linecolor rgb colours[c] title word(classes, c), \
    peak with lines linewidth 1 dashtype 2 linecolor rgb black title "peak", \
    (limit > 0 ? limit : NaN) with lines linewidth 2 linecolor rgb vermillion title "limit"
