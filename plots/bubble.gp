# description: the pipeline bubble of a sweep against the number of microbatches
# data: bubble
width = 900
height = 500
load ARG4.".var"
call ARG1 ARG2 ARG3 ARG4

array colours[7] = [blue, vermillion, green, orange, purple, sky, black]
array shapes[7] = [7, 5, 9, 13, 11, 6, 4]
set title "Pipeline bubble".remark
set xlabel "microbatches per step"
set ylabel "bubble (%)"
set logscale x 2
set key inside top right vertical Left reverse opaque box linecolor rgb "#CCCCCC"
set xrange [from / 1.15:to * 1.15]
set yrange [0:*]
plot for [i = 0:n_lines - 1] base.".dat" index i using 1:2 with linespoints linewidth 1.6 pointsize 1 \
    pointtype shapes[i + 1] linecolor rgb colours[i + 1] title columnheader(1)
