// A `libcuda.so.1` without a GPU: the driver's functions that the CUDA engine and its bench call, in the host's memory,
// with the kernels' C++ build. It tests `driver.rs`, and that the bench runs. `driver.sh` builds it and runs tests on it.
//
// GStreamer's elements for CUDA memory run on it as well, see `tests/cuda_memory.rs`. They want to see a libnvcuvid.so.1,
// which it can be too: it decodes nothing.
//
// VAEANOMALY_EMULATE names what fails: `module`, contexts besides the primary one take no kernels; `reduce` and `teams`, the
// launches of these kernels.
//
// A stream runs its work at once, in the calling thread, one launch at a time.

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <time.h>

#include "run.h"

using Handle = void*;
using Address = unsigned long long;
enum { SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, INVALID_CONTEXT = 201, NO_BINARY_FOR_GPU = 209, NOT_FOUND = 500, ILLEGAL_ADDRESS = 700, NOT_SUPPORTED = 801 };

constexpr size_t MEMORY = size_t(8) << 30;
static std::mutex lock;
static std::map<Address, size_t> allocated;
static size_t used;
static bool faulted;
static thread_local Handle contexts[16];
static thread_local int depth;
static int primary, references;
static int functions[5];
constexpr unsigned MULTIPROCESSORS = 64, BLOCKS_OF_A_TEAM = 4;

static Handle current() { return depth ? contexts[depth - 1] : nullptr; }
static bool fails(const char* what) {
    const char* named = getenv("VAEANOMALY_EMULATE");
    return named && !strcmp(named, what);
}

#define CALL extern "C" __attribute__((visibility("default"))) int
// Calls that need a context, which a fault has ended.
#define NEEDS_CONTEXT                             \
    if (!current()) return INVALID_CONTEXT;       \
    if (faulted) return ILLEGAL_ADDRESS

CALL cuInit(unsigned) { return SUCCESS; }
CALL cuDriverGetVersion(int* version) { return *version = 13000, SUCCESS; }
CALL cuGetErrorName(int error, const char** name) {
    switch (error) {
    case OUT_OF_MEMORY: *name = "CUDA_ERROR_OUT_OF_MEMORY"; break;
    case INVALID_CONTEXT: *name = "CUDA_ERROR_INVALID_CONTEXT"; break;
    case NO_BINARY_FOR_GPU: *name = "CUDA_ERROR_NO_BINARY_FOR_GPU"; break;
    case ILLEGAL_ADDRESS: *name = "CUDA_ERROR_ILLEGAL_ADDRESS"; break;
    default: *name = "CUDA_ERROR_OF_THE_EMULATED_DRIVER";
    }
    return SUCCESS;
}
CALL cuGetErrorString(int error, const char** text) { return cuGetErrorName(error, text); }
CALL cuDeviceGetCount(int* count) { return *count = 1, SUCCESS; }
CALL cuDeviceGet(int* device, int number) { return *device = number, number == 0 ? SUCCESS : INVALID_VALUE; }
CALL cuDeviceGetName(char* name, int length, int) { return snprintf(name, length, "emulated device"), SUCCESS; }
CALL cuDeviceTotalMem_v2(size_t* bytes, int) { return *bytes = MEMORY, SUCCESS; }
CALL cuDeviceGetAttribute(int* value, int attribute, int) {
    switch (attribute) {
    case 16: *value = MULTIPROCESSORS; break;
    case 81: *value = 100 << 10; break;     // shared memory of a multiprocessor
    case 97: *value = 99 << 10; break;      // shared memory of a block at most
    case 75: *value = 9; break;             // compute capability
    case 76: *value = 0; break;
    default: *value = 1;
    }
    return SUCCESS;
}
CALL cuDevicePrimaryCtxRetain(Handle* context, int) { return references++, *context = &primary, SUCCESS; }
CALL cuDevicePrimaryCtxRelease_v2(int) {
    if (--references < 0) abort();
    return SUCCESS;
}
CALL cuCtxGetCurrent(Handle* context) { return *context = current(), SUCCESS; }
CALL cuCtxSetCurrent(Handle context) {
    if (!context) depth -= depth > 0;
    else contexts[depth ? depth - 1 : depth++] = context;
    return SUCCESS;
}
CALL cuCtxPushCurrent_v2(Handle context) { return depth < 16 ? (contexts[depth++] = context, SUCCESS) : INVALID_VALUE; }
CALL cuCtxPopCurrent_v2(Handle* context) {
    if (!depth) return INVALID_CONTEXT;
    depth--;
    if (context) *context = contexts[depth];
    return SUCCESS;
}
CALL cuCtxCreate_v2(Handle* context, unsigned, int) { return cuCtxPushCurrent_v2(*context = malloc(1)); }
CALL cuCtxDestroy_v2(Handle context) { return free(context), SUCCESS; }
CALL cuCtxSynchronize() {
    NEEDS_CONTEXT;
    return SUCCESS;
}
CALL cuCtxGetLimit(size_t* value, int) { return *value = 1024, SUCCESS; }
CALL cuCtxSetLimit(int limit, size_t) { return limit == 0 ? SUCCESS : INVALID_VALUE; }
CALL cuCtxGetStreamPriorityRange(int* least, int* greatest) { return *least = 0, *greatest = -5, SUCCESS; }
CALL cuModuleLoadData(Handle* module, const void* image) {
    NEEDS_CONTEXT;
    if (fails("module") && current() != &primary) return NO_BINARY_FOR_GPU;
    // That of a fat binary, or PTX of the bench.
    if (*static_cast<const unsigned*>(image) != 0xba55ed50u && memcmp(image, ".version", 8)) return INVALID_VALUE;
    return *module = &primary, SUCCESS;
}
CALL cuModuleUnload(Handle) { return SUCCESS; }
CALL cuModuleGetFunction(Handle* function, Handle, const char* name) {
    NEEDS_CONTEXT;
    const char* names[] = {"score", "step", "nothing", "reduce", "score_in_teams"};
    for (int i = 0; i < 5; i++)
        if (!strcmp(name, names[i])) return *function = &functions[i], SUCCESS;
    return NOT_FOUND;
}
CALL cuFuncGetAttribute(int* value, int attribute, Handle) { return *value = attribute == 1 ? 2000 : 0, SUCCESS; }
CALL cuFuncSetAttribute(Handle, int, int) { return SUCCESS; }
CALL cuOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, Handle, int, size_t) { return *blocks = 1, SUCCESS; }
CALL cuStreamCreate(Handle* stream, unsigned) { return *stream = malloc(1), SUCCESS; }
CALL cuStreamCreateWithPriority(Handle* stream, unsigned, int) { return *stream = malloc(1), SUCCESS; }
CALL cuStreamSynchronize(Handle) {
    NEEDS_CONTEXT;
    return SUCCESS;
}
CALL cuStreamDestroy_v2(Handle stream) { return free(stream), SUCCESS; }
CALL cuStreamDestroy(Handle stream) { return cuStreamDestroy_v2(stream); }
CALL cuStreamWaitEvent(Handle, Handle, unsigned) { return SUCCESS; }
CALL cuEventCreate(Handle* event, unsigned) { return *event = malloc(1), SUCCESS; }
CALL cuEventDestroy_v2(Handle event) { return free(event), SUCCESS; }
CALL cuEventRecord(Handle, Handle) {
    NEEDS_CONTEXT;
    return SUCCESS;
}
CALL cuEventQuery(Handle) {
    NEEDS_CONTEXT;
    return SUCCESS;
}
CALL cuEventSynchronize(Handle event) { return cuEventQuery(event); }

static int allocate(Address* address, size_t bytes) {
    std::lock_guard<std::mutex> guard(lock);
    if (bytes == 0 || used + bytes > MEMORY) return OUT_OF_MEMORY;
    *address = reinterpret_cast<Address>(aligned_alloc(256, (bytes + 255) / 256 * 256));
    if (!*address) return OUT_OF_MEMORY;
    // Memory that only fills the device need not be in RAM.
    if (bytes < size_t(64) << 20) memset(reinterpret_cast<void*>(*address), 0xff, bytes);
    allocated[*address] = bytes;
    used += bytes;
    return SUCCESS;
}
static int release(Address address) {
    std::lock_guard<std::mutex> guard(lock);
    auto found = allocated.find(address);
    if (found == allocated.end()) return INVALID_VALUE;
    used -= found->second;
    allocated.erase(found);
    free(reinterpret_cast<void*>(address));
    return SUCCESS;
}
CALL cuMemAlloc_v2(Address* address, size_t bytes) {
    NEEDS_CONTEXT;
    return allocate(address, bytes);
}
CALL cuMemAllocAsync(Address* address, size_t bytes, Handle) { return cuMemAlloc_v2(address, bytes); }
CALL cuMemFree_v2(Address address) {
    NEEDS_CONTEXT;
    return release(address);
}
CALL cuMemFreeAsync(Address address, Handle) { return cuMemFree_v2(address); }
CALL cuMemHostAlloc(void** address, size_t bytes, unsigned flags) {
    NEEDS_CONTEXT;
    if (flags != 3) return INVALID_VALUE;
    return allocate(reinterpret_cast<Address*>(address), bytes);
}
CALL cuMemAllocHost_v2(void** address, size_t bytes) { return cuMemHostAlloc(address, bytes, 3); }
CALL cuMemAllocPitch_v2(Address* address, size_t* pitch, size_t width, size_t height, unsigned) {
    *pitch = (width + 511) / 512 * 512;
    return cuMemAlloc_v2(address, *pitch * height);
}
CALL cuMemFreeHost(void* address) {
    NEEDS_CONTEXT;
    return release(reinterpret_cast<Address>(address));
}
CALL cuMemGetInfo_v2(size_t* unused, size_t* total) {
    NEEDS_CONTEXT;
    std::lock_guard<std::mutex> guard(lock);
    return *unused = MEMORY - used, *total = MEMORY, SUCCESS;
}
CALL cuMemcpyHtoDAsync_v2(Address to, const void* from, size_t bytes, Handle) {
    NEEDS_CONTEXT;
    return memcpy(reinterpret_cast<void*>(to), from, bytes), SUCCESS;
}
CALL cuMemcpyDtoHAsync_v2(void* to, Address from, size_t bytes, Handle) {
    NEEDS_CONTEXT;
    return memcpy(to, reinterpret_cast<void*>(from), bytes), SUCCESS;
}
CALL cuMemcpyDtoDAsync_v2(Address, Address, size_t, Handle) {
    NEEDS_CONTEXT;
    return SUCCESS;
}
CALL cuMemsetD8Async(Address, unsigned char, size_t, Handle) { return SUCCESS; }

// One side of a copy.
struct Plane {
    size_t x, y;
    int type;
    char* host;
    char* device;
    void* array;
    size_t pitch;
    char* row(size_t number) const { return (type == 2 ? device : host) + (y + number) * pitch + x; }
};
struct Copy2D {
    Plane from, to;
    size_t width, height;
};
CALL cuMemcpy2D_v2(const Copy2D* copy) {
    NEEDS_CONTEXT;
    for (size_t row = 0; row < copy->height; row++) memcpy(copy->to.row(row), copy->from.row(row), copy->width);
    return SUCCESS;
}
CALL cuMemcpy2DAsync_v2(const Copy2D* copy, Handle) { return cuMemcpy2D_v2(copy); }

static unsigned long long nanoseconds() {
    timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000ull + now.tv_nsec;
}

CALL cuLaunchKernel(Handle function, unsigned blocks, unsigned, unsigned, unsigned threads, unsigned, unsigned, unsigned shared_bytes, Handle, void** arguments, void**) {
    NEEDS_CONTEXT;
    if (function == &functions[2]) return SUCCESS;
    if (function == &functions[3]) {
        if (threads != THREADS || fails("reduce")) return INVALID_VALUE;
        run_reduction(false, blocks, *static_cast<const Reduction*>(arguments[0]));
        return SUCCESS;
    }
    const auto jobs = *static_cast<const Job**>(arguments[0]);
    const int count = *static_cast<int*>(arguments[1]);
    const auto workspaces = *static_cast<float**>(arguments[2]);
    const auto pitch = *static_cast<long long*>(arguments[3]);
    const auto busy = *static_cast<unsigned long long**>(arguments[4]) + 1;
    if (threads != THREADS || blocks < 1 || blocks > MULTIPROCESSORS || shared_bytes > (99 << 10) - 2000) return INVALID_VALUE;
    if (function == &functions[4]) {
        // Every team has one job. Its blocks are emulated as one, or, with TEAM, as they are.
        if (blocks != BLOCKS_OF_A_TEAM * count || fails("teams")) return INVALID_VALUE;
        blocks = count;
    }
    const size_t pitch_of_shared = shared_bytes / 16 * 4 + 4;
    auto shared = static_cast<float*>(aligned_alloc(16, TEAM * 4 * pitch_of_shared));
    const auto start = nanoseconds();
    for (int i = 0; i < count; i++) {
        if (jobs[i].weights < reinterpret_cast<float*>(4096)) {
            faulted = true;
            break;
        }
        float* work = workspaces + i % blocks * pitch;
        run_job(function == &functions[1], false, jobs + i, shared, pitch_of_shared, work);
    }
    *busy += nanoseconds() - start;
    free(shared);
    return SUCCESS;
}

// What GStreamer looks up, and does not call here.
#define UNUSED(name) \
    CALL name() { return NOT_SUPPORTED; }
UNUSED(cuDeviceCanAccessPeer)
UNUSED(cuCtxEnablePeerAccess)
UNUSED(cuCtxDisablePeerAccess)
UNUSED(cuGraphicsMapResources)
UNUSED(cuGraphicsUnmapResources)
UNUSED(cuGraphicsUnregisterResource)
UNUSED(cuTexObjectCreate)
UNUSED(cuTexObjectDestroy)
UNUSED(cuGraphicsGLRegisterImage)
UNUSED(cuGraphicsGLRegisterBuffer)
UNUSED(cuGLGetDevices_v2)
UNUSED(cuGraphicsResourceSetMapFlags_v2)
UNUSED(cuGraphicsSubResourceGetMappedArray)
UNUSED(cuGraphicsResourceGetMappedPointer_v2)
UNUSED(cuvidCtxLockCreate)
UNUSED(cuvidCtxLockDestroy)
UNUSED(cuvidCtxLock)
UNUSED(cuvidCtxUnlock)
UNUSED(cuvidCreateDecoder)
UNUSED(cuvidDestroyDecoder)
UNUSED(cuvidDecodePicture)
UNUSED(cuvidCreateVideoParser)
UNUSED(cuvidParseVideoData)
UNUSED(cuvidDestroyVideoParser)
UNUSED(cuvidMapVideoFrame64)
UNUSED(cuvidUnmapVideoFrame64)
UNUSED(cuvidGetDecoderCaps)
