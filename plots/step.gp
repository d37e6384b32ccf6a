# description: where the step's time goes, rank by rank
# data: step
load ARG4.".var"
width = n_ranks < 24 ? 900 : 1300
height = 440
call ARG1 ARG2 ARG3 ARG4

array colours[6] = [blue, vermillion, orange, grey, yellow, purple]
array names[6] = ["compute", "exposed transfers", "waiting for peers", "bubble", "issue gaps", "optimizer"]
set title heading
set xlabel "rank"
set ylabel "time (ms)"
set style data histograms
set style histogram rowstacked
set boxwidth 0.8
set yrange [0:*]
set xtics scale 0
set key autotitle columnheader
if (n_ranks > 64) { set xtics 0, 16 }
plot for [c = 1:6] base.".dat" using (column(c + 1)):xtic(n_ranks > 64 ? 8 : 1) \
    linecolor rgb colours[c] title names[c]
