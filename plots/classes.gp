# description: time by class of op, predicted and measured
# data: classes
width = 1000
height = 460
call ARG1 ARG2 ARG3 ARG4

set title "Time of a rank by class of op (mean; communication with waiting)"
set ylabel "time (ms)"
set style data histograms
set style histogram clustered gap 1
set boxwidth 0.9
set xtics rotate by -30 scale 0
set yrange [0:*]
set offsets graph 0, graph 0, graph 0.06, 0
set rmargin 6
set key autotitle columnheader
plot base.".dat" using 2:xtic(1) linecolor rgb sky title "predicted", \
    "" using 3 linecolor rgb blue title "measured", \
    "" using ($0):($2 > $3 ? $2 : $3):4 with labels offset 0,0.6 font font_name.",9" notitle
