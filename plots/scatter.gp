# description: mean time of each op, predicted against measured
# data: ops
width = 700
height = 640
load ARG4.".var"
call ARG1 ARG2 ARG3 ARG4

array colours[4] = [blue, green, orange, vermillion]
array shapes[4] = [7, 9, 5, 13]
set title "Ops, predicted against measured"
set label 1 remark at graph 0.5, 1.02 center textcolor rgb "#444444"
set title offset 0,1.0
set tmargin 5
set xlabel "measured (us)"
set ylabel "predicted (us)"
set logscale xy
set format xy "%g"
set size square
set grid xtics ytics linetype 1 linewidth 0.6 linecolor rgb "#DDDDDD"
set key inside bottom right vertical Left reverse opaque box linecolor rgb "#CCCCCC" samplen 1.5
stats base.".dat" using 1 nooutput name "X"
stats base.".dat" using 2 nooutput name "Y"
low = 0.7 * (X_min < Y_min ? X_min : Y_min)
high = 1.4 * (X_max > Y_max ? X_max : Y_max)
set xrange [low:high]
set yrange [low:high]
plot x with lines linewidth 1.2 linecolor rgb black title "equal", \
    1.2 * x with lines linewidth 1 dashtype 2 linecolor rgb grey title "20 % off", \
    x / 1.2 with lines linewidth 1 dashtype 2 linecolor rgb grey notitle, \
    for [i = 0:3] base.".dat" index i using 1:2 with points pointtype shapes[i + 1] pointsize 0.9 \
        linecolor rgb colours[i + 1] title columnheader(1)
