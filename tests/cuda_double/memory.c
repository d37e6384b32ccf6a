/* memory.c: devices and their memory: a stretch of addresses for each, in which allocations lie
 * with gaps between them. */
#include "parts.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define GIB ((size_t)1 << 30)

enum { ALIGNMENT = 256, GAP = 256, POISON = 0xFF };

typedef struct pinned {
    struct pinned *next;
    char *first;
    size_t bytes;
} pinned;

static struct {
    pthread_mutex_t mutex;
    int n_devices;
    size_t memory_bytes;
    char *heap; /* [n_devices][4 GiB] */
    allocation *first[MAX_DEVICES];
    size_t used[MAX_DEVICES];
    bool peers[MAX_DEVICES][MAX_DEVICES];
    pinned *pinned;
} all = {.mutex = PTHREAD_MUTEX_INITIALIZER, .n_devices = 1, .memory_bytes = 4 * GIB};

static atomic_uint_fast64_t generation;
static _Thread_local int current;
static _Thread_local cudaError_t last_error;

static cudaError_t note(cudaError_t error)
{
    if (error != cudaSuccess)
        last_error = error;
    return error;
}

void cuda_double_devices(int count, size_t memory_bytes)
{
    all.n_devices = count < MAX_DEVICES ? count : MAX_DEVICES;
    all.memory_bytes = memory_bytes < 4 * GIB ? memory_bytes : 4 * GIB;
}

int device_now(void)
{
    return current;
}

/* ---- devices ---- */

cudaError_t cudaGetDeviceCount(int *count)
{
    *count = all.n_devices;
    return note(all.n_devices > 0 ? cudaSuccess : cudaErrorNoDevice);
}

cudaError_t cudaGetDevice(int *device)
{
    *device = current;
    return note(all.n_devices > 0 ? cudaSuccess : cudaErrorNoDevice);
}

static cudaError_t valid(int device)
{
    return device >= 0 && device < all.n_devices ? cudaSuccess : cudaErrorInvalidDevice;
}

cudaError_t cudaSetDevice(int device)
{
    if (valid(device) == cudaSuccess)
        current = device;
    return note(valid(device));
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *prop, int device)
{
    if (valid(device) != cudaSuccess)
        return note(cudaErrorInvalidDevice);
    *prop = (struct cudaDeviceProp){.name = "double of a GPU",
                                    .totalGlobalMem = all.memory_bytes,
                                    .sharedMemPerBlock = 48 * 1024,
                                    .sharedMemPerBlockOptin = MOST_SHARED,
                                    .multiProcessorCount = 4,
                                    .major = 9,
                                    .pciBusID = device + 1};
    return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attr, int device)
{
    struct cudaDeviceProp prop;
    cudaError_t error = cudaGetDeviceProperties(&prop, device);
    if (error != cudaSuccess)
        return error;
    switch (attr) {
    case cudaDevAttrMaxThreadsPerBlock:
        *value = MOST_THREADS;
        return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlock:
        *value = (int)prop.sharedMemPerBlock;
        return cudaSuccess;
    case cudaDevAttrMultiProcessorCount:
        *value = prop.multiProcessorCount;
        return cudaSuccess;
    case cudaDevAttrComputeCapabilityMajor:
        *value = prop.major;
        return cudaSuccess;
    case cudaDevAttrComputeCapabilityMinor:
        *value = prop.minor;
        return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
        *value = (int)prop.sharedMemPerBlockOptin;
        return cudaSuccess;
    }
    return note(cudaErrorInvalidValue);
}

cudaError_t cudaDeviceGetPCIBusId(char *pciBusId, int len, int device)
{
    snprintf(pciBusId, (size_t)len, "0000:%02X:00.0", (unsigned)device + 1);
    return note(valid(device));
}

cudaError_t cudaDeviceCanAccessPeer(int *canAccessPeer, int device, int peerDevice)
{
    *canAccessPeer = device != peerDevice;
    return note(valid(device) == cudaSuccess ? valid(peerDevice) : cudaErrorInvalidDevice);
}

cudaError_t cudaDeviceEnablePeerAccess(int peerDevice, unsigned flags)
{
    if (flags != 0 || valid(peerDevice) != cudaSuccess || peerDevice == current)
        return note(cudaErrorInvalidDevice);
    if (all.peers[current][peerDevice])
        return note(cudaErrorPeerAccessAlreadyEnabled);
    all.peers[current][peerDevice] = true;
    return cudaSuccess;
}

bool device_reaches(int device, int peer)
{
    return device < 0 || device == peer || all.peers[device][peer];
}

cudaError_t cudaDeviceGetStreamPriorityRange(int *leastPriority, int *greatestPriority)
{
    *leastPriority = 0;
    *greatestPriority = -5;
    return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int *version)
{
    *version = CUDART_VERSION;
    return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int *version)
{
    *version = all.n_devices > 0 ? CUDART_VERSION : 0;
    return cudaSuccess;
}

/* ---- errors ---- */

static const struct {
    cudaError_t error;
    const char *name, *text;
} texts[] = {
    {cudaSuccess, "cudaSuccess", "no error"},
    {cudaErrorInvalidValue, "cudaErrorInvalidValue", "invalid argument"},
    {cudaErrorMemoryAllocation, "cudaErrorMemoryAllocation", "out of memory"},
    {cudaErrorInitializationError, "cudaErrorInitializationError", "initialization error"},
    {cudaErrorInvalidConfiguration, "cudaErrorInvalidConfiguration",
     "invalid configuration argument"},
    {cudaErrorNoDevice, "cudaErrorNoDevice", "no CUDA-capable device is detected"},
    {cudaErrorInvalidDevice, "cudaErrorInvalidDevice", "invalid device ordinal"},
    {cudaErrorInvalidResourceHandle, "cudaErrorInvalidResourceHandle", "invalid resource handle"},
    {cudaErrorNotReady, "cudaErrorNotReady", "device not ready"},
    {cudaErrorIllegalAddress, "cudaErrorIllegalAddress",
     "an illegal memory access was encountered"},
    {cudaErrorLaunchFailure, "cudaErrorLaunchFailure", "unspecified launch failure"},
    {cudaErrorNotSupported, "cudaErrorNotSupported", "operation not supported"},
};

const char *cudaGetErrorName(cudaError_t error)
{
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        if (texts[i].error == error)
            return texts[i].name;
    return "cudaErrorUnknown";
}

const char *cudaGetErrorString(cudaError_t error)
{
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        if (texts[i].error == error)
            return texts[i].text;
    return "unknown error";
}

cudaError_t cudaPeekAtLastError(void)
{
    return last_error;
}

cudaError_t cudaGetLastError(void)
{
    cudaError_t error = last_error;
    last_error = cudaSuccess;
    return error;
}

void error_note(cudaError_t error)
{
    note(error);
}

/* ---- allocations ---- */

static bool open_heap(void)
{
    if (all.heap)
        return true;
    void *heap = mmap(NULL, MAX_DEVICES * 4 * GIB, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (heap != MAP_FAILED)
        all.heap = heap;
    return all.heap != NULL;
}

static size_t rounded(size_t bytes)
{
    return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

/* First gap, from the heap's start on, that takes so many bytes; under the mutex. */
static cudaError_t place(size_t bytes, void **out)
{
    char *base = all.heap + (size_t)current * 4 * GIB, *end = base + 4 * GIB;
    allocation **link = &all.first[current];
    char *at = base + GAP;
    while (*link && (size_t)((*link)->first - at) < rounded(bytes) + GAP) {
        at = (*link)->first + rounded((*link)->bytes) + GAP;
        link = &(*link)->next;
    }
    if (!*link && (size_t)(end - at) < rounded(bytes) + GAP)
        return cudaErrorMemoryAllocation;
    allocation *a = malloc(sizeof *a);
    *a = (allocation){.next = *link, .first = at, .bytes = bytes, .device = current};
    *link = a;
    all.used[current] += rounded(bytes);
    memset(at, POISON, bytes);
    *out = at;
    return cudaSuccess;
}

cudaError_t cudaMalloc(void **devPtr, size_t size)
{
    if (all.n_devices == 0)
        return note(cudaErrorNoDevice);
    *devPtr = NULL;
    if (size == 0)
        return cudaSuccess;
    pthread_mutex_lock(&all.mutex);
    cudaError_t error = cudaErrorMemoryAllocation;
    if (open_heap() && size <= all.memory_bytes - all.used[current])
        error = place(size, devPtr);
    pthread_mutex_unlock(&all.mutex);
    return note(error);
}

cudaError_t cudaFree(void *devPtr)
{
    if (!devPtr)
        return cudaSuccess;
    cudaError_t error = cudaDeviceSynchronize();
    pthread_mutex_lock(&all.mutex);
    allocation *found = NULL;
    for (int d = 0; d < all.n_devices && !found; d++)
        for (allocation **link = &all.first[d]; *link && !found; link = &(*link)->next)
            if ((*link)->first == devPtr) {
                found = *link;
                *link = found->next;
                all.used[d] -= rounded(found->bytes);
                break;
            }
    pthread_mutex_unlock(&all.mutex);
    if (!found)
        return note(cudaErrorInvalidValue);
    atomic_fetch_add(&generation, 1);
    check_forget(found->first, found->bytes);
    free(found);
    return error;
}

uint64_t allocations_generation(void)
{
    return atomic_load(&generation);
}

const allocation *allocation_at(const void *from, size_t bytes)
{
    const char *at = from;
    const allocation *found = NULL;
    pthread_mutex_lock(&all.mutex);
    size_t device = is_device_address(from) ? heap_place(from) / (4 * GIB) : 0;
    for (const allocation *a = all.first[device]; a && a->first <= at; a = a->next)
        if (at + bytes <= a->first + a->bytes)
            found = a;
    pthread_mutex_unlock(&all.mutex);
    return found;
}

bool is_device_address(const void *address)
{
    const char *at = address;
    return all.heap && at >= all.heap && at < all.heap + MAX_DEVICES * 4 * GIB;
}

uint64_t heap_place(const void *address)
{
    return (uint64_t)((const char *)address - all.heap);
}

uint64_t heap_bytes(void)
{
    return MAX_DEVICES * 4 * GIB;
}

cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total)
{
    pthread_mutex_lock(&all.mutex);
    *total = all.memory_bytes;
    *free_bytes = all.memory_bytes - all.used[current];
    pthread_mutex_unlock(&all.mutex);
    return note(all.n_devices > 0 ? cudaSuccess : cudaErrorNoDevice);
}

/* ---- pinned memory of the host ---- */

cudaError_t cudaMallocHost(void **ptr, size_t size)
{
    pinned *p = malloc(sizeof *p);
    char *first = calloc(1, size > 0 ? size : 1);
    *p = (pinned){.first = first, .bytes = size};
    pthread_mutex_lock(&all.mutex);
    p->next = all.pinned;
    all.pinned = p;
    pthread_mutex_unlock(&all.mutex);
    *ptr = first;
    return cudaSuccess;
}

cudaError_t cudaHostAlloc(void **ptr, size_t size, unsigned flags)
{
    (void)flags;
    return cudaMallocHost(ptr, size);
}

cudaError_t cudaFreeHost(void *ptr)
{
    cudaError_t error = cudaDeviceSynchronize();
    pinned *found = NULL;
    pthread_mutex_lock(&all.mutex);
    for (pinned **link = &all.pinned; *link; link = &(*link)->next)
        if ((*link)->first == ptr) {
            found = *link;
            *link = found->next;
            break;
        }
    pthread_mutex_unlock(&all.mutex);
    if (!found)
        return note(ptr ? cudaErrorInvalidValue : cudaSuccess);
    free(found->first);
    free(found);
    return error;
}

bool is_pinned(const void *address)
{
    const char *at = address;
    bool found = false;
    pthread_mutex_lock(&all.mutex);
    for (const pinned *p = all.pinned; p && !found; p = p->next)
        found = at >= p->first && at < p->first + p->bytes;
    pthread_mutex_unlock(&all.mutex);
    return found;
}
