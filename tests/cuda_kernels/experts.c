/* experts.c: tests of the router, and of rows on their way to the experts and back. */
#include "kernels.h"

typedef struct routing {
    uint64_t tokens;
    uint32_t n_experts, k;
    int32_t *choice; /* [tokens][k], some dropped */
    uint32_t *place; /* [tokens][k] */
    uint64_t rows;
    int32_t *device_choice;
    uint32_t *sent; /* [n_experts] rows, on the device */
} routing;

static int32_t expert_of(int32_t choice)
{
    return choice >= 0 ? choice : -1 - choice;
}

/* Different experts for a token, as a top-k gives; every seventh choice is dropped. So many rows of
 * each expert are no pair's. */
static routing draw_routing(uint64_t tokens, uint32_t n_experts, uint32_t k, uint32_t padding)
{
    routing r = {.tokens = tokens, .n_experts = n_experts, .k = k};
    uint64_t n = tokens * k;
    r.choice = malloc(n * sizeof *r.choice);
    r.place = malloc(n * sizeof *r.place);
    for (uint64_t i = 0; i < n; i++) {
        int32_t first = (int32_t)draw_below(n_experts);
        int32_t e = i % k == 0 ? first : (expert_of(r.choice[i - 1]) + 1) % (int32_t)n_experts;
        r.choice[i] = draw_below(7) == 0 ? -1 - e : e;
    }
    uint32_t *sent = malloc(n_experts * sizeof *sent);
    for (uint32_t e = 0; e < n_experts; e++) {
        uint64_t first = r.rows;
        for (uint64_t i = 0; i < n; i++)
            if (r.choice[i] == (int32_t)e)
                r.place[i] = (uint32_t)r.rows++;
        r.rows += padding;
        sent[e] = (uint32_t)(r.rows - first);
    }
    for (uint64_t i = 0; i < n; i++)
        if (r.choice[i] < 0)
            r.place[i] = UINT32_MAX;
    r.device_choice = device_bytes(r.choice, n * sizeof *r.choice);
    r.sent = device_bytes(sent, n_experts * sizeof *sent);
    free(sent);
    return r;
}

static void drop_routing(routing *r)
{
    drop_bytes(r->device_choice);
    drop_bytes(r->sent);
    free(r->choice);
    free(r->place);
}

static const uint32_t routings[][3] = {
    {1, 2, 1}, {5, 4, 2}, {37, 8, 2}, {300, 33, 4}, {600, 128, 8}};
enum { N_ROUTINGS = sizeof routings / sizeof routings[0] };

/* ---- router ---- */

static void softmax(const double *x, uint32_t n, double *p)
{
    double most = x[0], sum = 0;
    for (uint32_t i = 0; i < n; i++)
        most = fmax(most, x[i]);
    for (uint32_t i = 0; i < n; i++)
        sum += p[i] = exp(x[i] - most);
    for (uint32_t i = 0; i < n; i++)
        p[i] /= sum;
}

static void topk(routing *r)
{
    uint64_t n = r->tokens * r->k, n_logits = r->tokens * r->n_experts;
    array logits = random_array(TDM_CUDA_FP32, n_logits, -3, 3),
          d = random_array(TDM_CUDA_FP32, n, -1, 1), probability = new_array(TDM_CUDA_FP32, n),
          dlogits = new_array(TDM_CUDA_FP32, n_logits);
    double *out = zeros(n), *back = zeros(n_logits), *p = zeros(r->n_experts);
    for (uint64_t t = 0; t < r->tokens; t++) {
        double *row = back + t * r->n_experts, mean = 0;
        softmax(logits.x + t * r->n_experts, r->n_experts, p);
        for (uint32_t j = 0; j < r->k; j++) {
            int32_t c = r->choice[t * r->k + j];
            out[t * r->k + j] = p[expert_of(c)];
            if (c >= 0)
                row[c] = d.x[t * r->k + j];
        }
        for (uint32_t e = 0; e < r->n_experts; e++)
            mean += row[e] * p[e];
        for (uint32_t e = 0; e < r->n_experts; e++)
            row[e] = p[e] * (row[e] - mean);
    }
    int32_t *copy = device_bytes(NULL, n * sizeof *copy), *choice = malloc(n * sizeof *choice);
    const float *l = (const float *)(const void *)logits.data;
    check(tdm_cuda_topk(stream, l, r->device_choice, r->tokens, r->n_experts, r->k,
                        (float *)(void *)probability.data, copy));
    read_bytes(choice, copy, n * sizeof *choice);
    assert_memory_equal(choice, r->choice, n * sizeof *choice);
    expect_close("topk", &probability, out);
    check(tdm_cuda_topk_backward(stream, l, copy, (const float *)(const void *)d.data, r->tokens,
                                 r->n_experts, r->k, (float *)(void *)dlogits.data));
    expect_close("topk backward", &dlogits, back);
    drop_bytes(copy);
    free(choice);
    drop_array(&logits);
    drop_array(&d);
    drop_array(&probability);
    drop_array(&dlogits);
    free(out);
    free(back);
    free(p);
}

static void test_topk(void **state)
{
    (void)state;
    for (int i = 0; i < N_ROUTINGS; i++) {
        routing r = draw_routing(routings[i][0], routings[i][1], routings[i][2], 0);
        topk(&r);
        drop_routing(&r);
    }
}

/* ---- places and rows ---- */

static uint32_t *device_places(const routing *r)
{
    uint64_t n = r->tokens * r->k;
    uint32_t *device = device_bytes(NULL, n * sizeof *device), *places = malloc(n * sizeof *places);
    void *room = device_bytes(NULL, tdm_cuda_places_workspace(n, r->n_experts));
    check(tdm_cuda_places(stream, r->device_choice, n, r->n_experts, r->sent, device, room));
    read_bytes(places, device, n * sizeof *places);
    assert_memory_equal(places, r->place, n * sizeof *places);
    drop_bytes(room);
    free(places);
    return device;
}

static void permute(const routing *r, tdm_cuda_type type, uint64_t columns)
{
    uint64_t n = r->tokens * r->k;
    uint32_t *places = device_places(r);
    array x = random_array(type, r->tokens * columns, -1, 1),
          rows = new_array(type, r->rows * columns), dx = new_array(type, r->tokens * columns);
    double *out = zeros(rows.count), *back = zeros(dx.count);
    for (uint64_t i = 0; i < n; i++)
        for (uint64_t c = 0; r->choice[i] >= 0 && c < columns; c++) {
            out[r->place[i] * columns + c] = x.x[i / r->k * columns + c];
            back[i / r->k * columns + c] += x.x[i / r->k * columns + c];
        }
    check(tdm_cuda_permute(stream, type, x.data, places, r->tokens, r->k, columns, rows.data));
    expect_within("permute", &rows, out, 0);
    check(tdm_cuda_permute_backward(stream, type, rows.data, places, r->tokens, r->k, columns,
                                    dx.data));
    expect_close("permute backward", &dx, back);
    drop_bytes(places);
    drop_array(&x);
    drop_array(&rows);
    drop_array(&dx);
    free(out);
    free(back);
}

static void unpermute(const routing *r, tdm_cuda_type type, uint64_t columns)
{
    uint64_t n = r->tokens * r->k;
    uint32_t *places = device_places(r);
    array rows = random_array(type, r->rows * columns, -1, 1),
          p = random_array(TDM_CUDA_FP32, n, 0, 1), y = new_array(type, r->tokens * columns),
          dy = random_array(type, r->tokens * columns, -1, 1),
          drows = new_array(type, r->rows * columns), dp = new_array(TDM_CUDA_FP32, n);
    double *out = zeros(y.count), *back = zeros(drows.count), *products = zeros(n);
    for (uint64_t i = 0; i < n; i++)
        for (uint64_t c = 0; r->choice[i] >= 0 && c < columns; c++) {
            uint64_t at = i / r->k * columns + c, row = r->place[i] * columns + c;
            out[at] += p.x[i] * rows.x[row];
            back[row] = p.x[i] * dy.x[at];
            products[i] += rows.x[row] * dy.x[at];
        }
    const float *probability = (const float *)(const void *)p.data;
    check(tdm_cuda_unpermute(stream, type, rows.data, places, probability, r->tokens, r->k, columns,
                             y.data));
    check(tdm_cuda_unpermute_backward(stream, type, dy.data, rows.data, places, probability,
                                      r->tokens, r->k, columns, (float *)(void *)dp.data,
                                      drows.data));
    expect_close("unpermute", &y, out);
    expect_close("unpermute backward", &drows, back);
    expect_close("unpermute probabilities", &dp, products);
    drop_bytes(places);
    drop_array(&rows);
    drop_array(&p);
    drop_array(&y);
    drop_array(&dy);
    drop_array(&drows);
    drop_array(&dp);
    free(out);
    free(back);
    free(products);
}

static void test_permute(void **state)
{
    (void)state;
    static const uint64_t columns[] = {1, 8, 72, 45};
    set_seed(11);
    for (int i = 0; i < N_ROUTINGS; i++)
        for (int type = 0; type < N_TYPES; type++)
            for (uint64_t shift = 0; shift < 2; shift++) {
                set_shift(shift);
                routing r = draw_routing(routings[i][0], routings[i][1], routings[i][2], 0);
                permute(&r, (tdm_cuda_type)type, columns[i % 4]);
                unpermute(&r, (tdm_cuda_type)type, columns[i % 4]);
                drop_routing(&r);
            }
    set_shift(0);
}

/* More pairs than a chunk of them, and one whose experts take all, with padding and without. */
static void test_places(void **state)
{
    (void)state;
    set_seed(12);
    for (uint32_t padding = 0; padding < 4; padding += 3) {
        routing many = draw_routing(1500, 64, 3, padding), few = draw_routing(1300, 2, 2, padding);
        drop_bytes(device_places(&many));
        drop_bytes(device_places(&few));
        drop_routing(&many);
        drop_routing(&few);
    }
}

/* ---- by sender and by expert ---- */

static void sort_rows(tdm_cuda_type type, uint32_t n_senders, uint32_t n_local, uint64_t columns)
{
    uint64_t step = n_local + 3, rows = 0;
    uint32_t *counts = calloc(n_senders * step, sizeof *counts);
    for (uint32_t i = 0; i < n_senders * n_local; i++)
        rows += counts[i / n_local * step + i % n_local] =
            draw_below(3) ? (uint32_t)draw_below(6) : 0;
    array in = random_array(type, rows * columns, -1, 1), out = new_array(type, rows * columns),
          back = new_array(type, rows * columns);
    double *sorted = zeros(in.count);
    uint64_t row = 0;
    for (uint32_t e = 0; e < n_local; e++)
        for (uint32_t s = 0; s < n_senders; s++) {
            uint64_t from = 0;
            for (uint32_t i = 0; i < s * n_local + e; i++)
                from += counts[i / n_local * step + i % n_local];
            for (uint32_t r = 0; r < counts[s * step + e]; r++, row++)
                memcpy(sorted + row * columns, in.x + (from + r) * columns,
                       columns * sizeof *sorted);
        }
    uint32_t *device = device_bytes(counts, n_senders * step * sizeof *counts);
    check(tdm_cuda_sort(stream, type, false, in.data, device, step, n_senders, n_local, rows,
                        columns, out.data));
    check(tdm_cuda_sort(stream, type, true, out.data, device, step, n_senders, n_local, rows,
                        columns, back.data));
    expect_within("sort", &out, sorted, 0);
    memcpy(sorted, in.x, in.count * sizeof *sorted);
    expect_within("sort and back", &back, sorted, 0);
    drop_bytes(device);
    drop_array(&in);
    drop_array(&out);
    drop_array(&back);
    free(counts);
    free(sorted);
}

static void test_sort(void **state)
{
    (void)state;
    set_seed(13);
    for (int type = 0; type < N_TYPES; type++) {
        sort_rows((tdm_cuda_type)type, 1, 1, 8);
        sort_rows((tdm_cuda_type)type, 4, 3, 40);
        sort_rows((tdm_cuda_type)type, 8, 16, 33);
        sort_rows((tdm_cuda_type)type, 2, 300, 16);
    }
}

const struct CMUnitTest expert_tests[] = {
    cmocka_unit_test(test_topk),
    cmocka_unit_test(test_places),
    cmocka_unit_test(test_permute),
    cmocka_unit_test(test_sort),
};
const size_t n_expert_tests = sizeof expert_tests / sizeof expert_tests[0];
