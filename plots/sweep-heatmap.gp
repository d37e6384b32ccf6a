# description: the first two keys of a sweep, coloured by throughput or step time
# data: sweep
load ARG4.".var"
width = 260 + 90 * (n_x > 4 ? n_x : 4)
height = 150 + 44 * (n_y > 4 ? n_y : 4)
call ARG1 ARG2 ARG3 ARG4

# Cividis: Nunez, Anderton and Renslow (2018), the same with any kind of colour vision.
set palette defined (0 "#00224E", 0.25 "#414D6B", 0.5 "#7C7B78", 0.75 "#BCAF6F", 1 "#FEE838")
set title "Sweep: ".value_label.remark
set xlabel x_label
set ylabel y_label
unset grid
set border 0
unset key
stats base.".dat" using ($4 > 0 ? $3 : NaN) nooutput name "V"
set xrange [-0.5:n_x - 0.5]
set yrange [-0.5:n_y - 0.5]
set xtics () scale 0
set ytics () scale 0
do for [i = 1:n_x] { set xtics add (xs[i] i - 1) }
do for [i = 1:n_y] { set ytics add (ys[i] i - 1) }
low = V_min
high = V_max > V_min ? V_max : V_min + 1
set cbrange [low:high]
set colorbox
middle = 0.5 * (low + high)
plot base.".dat" using 1:2:($4 > 0 ? $3 : NaN) with image, \
    "" using ($4 > 0 ? $1 : NaN):2:(sprintf("%.4g", $3)):($3 < middle ? 0xFFFFFF : 0) with labels textcolor rgb variable, \
    "" using ($4 > 0 ? NaN : $1):2:("does not fit") with labels textcolor rgb grey font font_name.",9"
