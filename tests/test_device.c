/* Every device profile that is shipped, and how a profile is read. */
#include "core/device_load.h"
#include "core/files.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static void check_value(const tdm_value *value, double least, double most)
{
    assert_true(value->value >= least && value->value <= most);
    assert_non_null(value->source);
    assert_true(strlen(value->source) > 10);
    assert_non_null(tdm_grade_name(value->grade));
}

/* One core of a processor, as tandem calibrate wrote it. */
static void check_core(const tdm_device *device)
{
    check_value(&device->memory_bytes, 1e9, 10e12);
    check_value(&device->peak_flops_per_s[TDM_DTYPE_FP32], 1e9, 1e12);
    check_value(&device->launch_s, 1e-9, 1e-5);
    assert_true(device->n_products > 100 && device->n_kernels > 30);
    for (uint32_t i = 0; i < device->n_products; i++)
        assert_true(device->products[i].flops_per_s <
                    2 * device->peak_flops_per_s[TDM_DTYPE_FP32].value);
}

static void check_device(const tdm_device *device)
{
    if (strncmp(device->name, "host-", strlen("host-")) == 0) {
        check_core(device);
        return;
    }
    check_value(&device->memory_bytes, 16e9, 400e9);
    check_value(&device->memory_bytes_per_s, 0.5e12, 20e12);
    check_value(&device->peak_flops_per_s[TDM_DTYPE_FP16], 50e12, 5e15);
    check_value(&device->peak_flops_per_s[TDM_DTYPE_FP32], 5e12, 200e12);
    if (device->peak_flops_per_s[TDM_DTYPE_BF16].value > 0)
        check_value(&device->peak_flops_per_s[TDM_DTYPE_BF16], 50e12, 5e15);
    check_value(&device->launch_s, 0.5e-6, 20e-6);
    check_value(&device->kernel_floor_s, 0.5e-6, 20e-6);
    check_value(&device->context_bytes, 0, 8e9);
    const tdm_value *shares[] = {
        &device->gemm_efficiency, &device->grouped_gemm_efficiency, &device->attention_efficiency,
        &device->attention_backward_efficiency, &device->memory_efficiency};
    for (size_t s = 0; s < TDM_COUNT(shares); s++)
        check_value(shares[s], 0.05, 1);
    assert_true(device->attention_backward_efficiency.value <= device->attention_efficiency.value);
}

static void every_file(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    static const char folder_path[] = TANDEM_SOURCE_ROOT "/topologies/devices";
    DIR *folder = opendir(folder_path);
    assert_non_null(folder);
    int n = 0;
    for (struct dirent *entry; (entry = readdir(folder));) {
        if (!strstr(entry->d_name, ".yaml"))
            continue;
        static tdm_error err;
        tdm_device device = {0};
        if (tdm_device_load(&arena, tdm_file_join(&arena, folder_path, entry->d_name), &device,
                            &err) != TDM_OK)
            fail_msg("%s", err.text);
        assert_string_equal(device.name, tdm_file_stem(&arena, entry->d_name));
        check_device(&device);
        n++;
    }
    closedir(folder);
    assert_true(n >= 5);
    tdm_arena_free(&arena);
}

/* Units, the short form, and that an own source wins over the file's. */
static void values(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    static tdm_error err;
    tdm_device device = {0};
    assert_int_equal(tdm_device_load(&arena, TANDEM_SOURCE_ROOT "/topologies/devices/a100-80g.yaml",
                                     &device, &err),
                     TDM_OK);
    assert_true(device.memory_bytes.value == 80.0 * 1024 * 1024 * 1024);
    assert_true(device.memory_bytes_per_s.value == 2039e9);
    assert_true(device.peak_flops_per_s[TDM_DTYPE_BF16].value == 312e12);
    assert_true(device.peak_flops_per_s[TDM_DTYPE_FP32].value == 19.5e12);
    assert_true(device.launch_s.value == 3e-6);
    assert_int_equal(device.memory_bytes_per_s.grade, TDM_GRADE_DATASHEET);
    assert_non_null(strstr(device.memory_bytes_per_s.source, "datasheet (2021)"));
    assert_int_equal(device.gemm_efficiency.grade, TDM_GRADE_PUBLISHED);
    assert_non_null(strstr(device.gemm_efficiency.source, "AIConfigurator"));
    tdm_arena_free(&arena);
}

static void unsupported_dtype(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    static tdm_error err;
    tdm_device device = {0};
    assert_int_equal(tdm_device_load(&arena, TANDEM_SOURCE_ROOT "/topologies/devices/v100-32g.yaml",
                                     &device, &err),
                     TDM_OK);
    assert_true(device.peak_flops_per_s[TDM_DTYPE_BF16].value == 0);
    tdm_arena_free(&arena);
}

static void missing_file(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    static tdm_error err;
    tdm_device device = {.name = "untouched"};
    assert_int_equal(tdm_device_load(&arena, "no/such/file.yaml", &device, &err), TDM_E_INVALID);
    assert_string_equal(device.name, "untouched");
    assert_non_null(strstr(err.text, "no/such/file.yaml"));
    tdm_arena_free(&arena);
}

/* What was measured on another part is a guess for this one. */
static void borrowed_values(void **state)
{
    (void)state;
    tdm_arena arena = {0};
    static tdm_error err;
    tdm_device device = {0};
    assert_int_equal(tdm_device_load(&arena, TANDEM_SOURCE_ROOT "/topologies/devices/a100-40g.yaml",
                                     &device, &err),
                     TDM_OK);
    const tdm_value *borrowed[] = {&device.launch_s,
                                   &device.kernel_floor_s,
                                   &device.gemm_efficiency,
                                   &device.grouped_gemm_efficiency,
                                   &device.attention_efficiency,
                                   &device.attention_backward_efficiency,
                                   &device.memory_efficiency};
    for (size_t i = 0; i < TDM_COUNT(borrowed); i++)
        assert_int_equal(borrowed[i]->grade, TDM_GRADE_GUESS);
    assert_int_equal(device.memory_bytes_per_s.grade, TDM_GRADE_DATASHEET);
    tdm_arena_free(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_file),        cmocka_unit_test(values),
        cmocka_unit_test(unsupported_dtype), cmocka_unit_test(missing_file),
        cmocka_unit_test(borrowed_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
