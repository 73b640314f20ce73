/* A libnvidia-ml.so.1 without a GPU. GPUDEPLOY_STUB_GPUS: so many plain GPUs; without it three: a plain one, one that
   tells neither its use nor its power, and one in MIG mode with two parts. GPUDEPLOY_STUB_BROKEN: the driver refuses. */
#include <stdio.h>
#include <stdlib.h>

typedef struct { unsigned gpu, memory; } share_t;
typedef struct { unsigned long long total, free, used; } memory_t;
typedef struct { unsigned version; unsigned long long total, reserved, free, used; } memory2_t;
enum { OK = 0, UNSUPPORTED = 3, NOT_FOUND = 6, MISMATCH = 18 };
#define GIB (1ULL << 30)

static int plain(void) { const char *n = getenv("GPUDEPLOY_STUB_GPUS"); return n ? atoi(n) : 0; }
static long number(void *handle) { return (long)handle - 1; }
static int is_part(void *handle) { return number(handle) >= 100; }
static int is_mute(void *handle) { return is_part(handle) || (!plain() && number(handle) == 1); }

int nvmlInit_v2(void) { return getenv("GPUDEPLOY_STUB_BROKEN") ? MISMATCH : OK; }
int nvmlInitWithFlags(unsigned flags) { (void)flags; return nvmlInit_v2(); }
int nvmlShutdown(void) { return OK; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = plain() ? plain() : 3; return OK; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle) { *handle = (void *)(long)(index + 1); return OK; }
int nvmlDeviceGetMigMode(void *handle, unsigned *now, unsigned *next) {
    if (plain()) return UNSUPPORTED;
    *now = *next = number(handle) == 2;
    return OK;
}
int nvmlDeviceGetMaxMigDeviceCount(void *handle, unsigned *count) { (void)handle; *count = 7; return OK; }
int nvmlDeviceGetMigDeviceHandleByIndex(void *handle, unsigned index, void **part) {
    (void)handle;
    if (index > 1) return NOT_FOUND;
    *part = (void *)(long)(101 + index);
    return OK;
}
int nvmlDeviceGetUUID(void *handle, char *text, unsigned size) {
    snprintf(text, size, is_part(handle) ? "MIG-%ld" : "GPU-%ld", number(handle));
    return OK;
}
int nvmlDeviceGetUtilizationRates(void *handle, share_t *share) {
    if (is_mute(handle)) return UNSUPPORTED;
    share->gpu = 97; share->memory = 31;
    return OK;
}
int nvmlDeviceGetMemoryInfo(void *handle, memory_t *memory) {
    (void)handle;
    memory->total = 80 * GIB; memory->used = 7 * GIB; memory->free = 73 * GIB;
    return OK;
}
int nvmlDeviceGetMemoryInfo_v2(void *handle, memory2_t *memory) {
    (void)handle;
    memory->total = 80 * GIB; memory->reserved = GIB; memory->used = 5 * GIB; memory->free = 74 * GIB;
    return OK;
}
int nvmlDeviceGetPowerUsage(void *handle, unsigned *milliwatts) {
    if (is_mute(handle)) return UNSUPPORTED;
    *milliwatts = 300500;
    return OK;
}
int nvmlDeviceGetTemperature(void *handle, int sensor, unsigned *celsius) {
    (void)sensor;
    if (is_part(handle)) return UNSUPPORTED;
    *celsius = 61;
    return OK;
}
