# description: throughput of a sweep's points against their memory, and the front of both
# data: pareto
width = 900
height = 560
load ARG4.".var"
call ARG1 ARG2 ARG3 ARG4

set title "Throughput against memory"
set xlabel "peak memory of a GPU (GB)"
set ylabel "thousand tokens per second"
set grid xtics ytics linetype 1 linewidth 0.6 linecolor rgb "#DDDDDD"
set offsets graph 0.14, graph 0.04, graph 0.10, graph 0.03
set label 1 "labels: ".keys at graph 0.01, graph 0.985 left textcolor rgb "#555555" font font_name.",9"
plot base.".dat" index 2 using 1:2 with points pointtype 2 pointsize 0.9 linecolor rgb grey title "does not fit", \
    "" index 1 using 1:2 with points pointtype 6 pointsize 1 linewidth 1.2 linecolor rgb blue title "fits", \
    "" index 0 using 1:2 with linespoints pointtype 7 pointsize 1.1 linewidth 1.5 linecolor rgb vermillion \
        title "front", \
    "" index 0 using 1:2:3 with labels right offset -0.9,0.5 font font_name.",9" notitle
