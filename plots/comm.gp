# description: time of a collective by size, predicted and measured
# data: comm
width = 900
height = 640
load ARG4.".var"
call ARG1 ARG2 ARG3 ARG4

set multiplot
set lmargin 11
set rmargin 3
set logscale x 2
set grid xtics ytics linetype 1 linewidth 0.6 linecolor rgb "#DDDDDD"
bytes(b) = b >= 2**30 ? sprintf("%g GiB", b / 2**30) : b >= 2**20 ? sprintf("%g MiB", b / 2**20) : \
    b >= 2**10 ? sprintf("%g KiB", b / 2**10) : sprintf("%g B", b)
stats base.".dat" every ::1 using 1 nooutput name "S"
set xrange [S_min / 1.3:S_max * 1.3]

set tmargin at screen 0.90
set bmargin at screen 0.40
set title heading
set ylabel "time (us)"
set logscale y
set format y "%g"
set format x ""
set key inside top left vertical Left reverse opaque box linecolor rgb "#CCCCCC"
plot base.".dat" every ::1 using 1:2 with linespoints pointtype 6 linewidth 1.6 linecolor rgb orange title "predicted", \
    "" every ::1 using 1:3 with linespoints pointtype 7 linewidth 1.6 linecolor rgb blue title "measured"

set tmargin at screen 0.37
set bmargin at screen 0.13
unset title
unset key
unset logscale y
set ylabel "error (%)"
set xlabel "size"
set xtics ()
do for [e = 0:40:3] { if (2**e >= S_min / 1.3 && 2**e <= S_max * 1.3) { set xtics add (bytes(2.0**e) 2.0**e) } }
plot 0 with lines linewidth 1 linecolor rgb black, \
    base.".dat" every ::1 using 1:4 with impulses linewidth 3 linecolor rgb vermillion
unset multiplot
