/* What the trampolines of jump.S call the first time: looks a function of CUDA up, loading its library if need be.
 *
 * A function that cannot be had gives the status that its library gives for "not here", and the next call looks again. */

#include <dlfcn.h>
#include <stdatomic.h>
#include <stddef.h>

#define HIDDEN __attribute__ ((visibility ("hidden")))

struct library
{
  /* Newest first. */
  const char *names[4];
  /* For messages. */
  const char *title;
  /* Status of every function when the library, or only the function, is not here. */
  int (*no_library) (void);
  int (*no_function) (void);
  _Atomic (void *) handle;
};

struct entry
{
  _Atomic (void *) address;
  const char *name;
  struct library *library;
};

/* Of cuda.h, cublas_api.h, curand.h and nvrtc.h. */
static int cuda_no_device (void) { return 100; }
static int cuda_not_supported (void) { return 801; }
static int cublas_not_initialized (void) { return 1; }
static int cublas_not_supported (void) { return 15; }
static int curand_initialization_failed (void) { return 203; }
static int nvrtc_internal_error (void) { return 11; }

#define LIBRARY(id) HIDDEN struct library vaeanomaly_library_##id

LIBRARY (cuda) = { { "libcuda.so.1" }, "the driver's libcuda.so.1", cuda_no_device, cuda_not_supported, NULL };
LIBRARY (cublas) = { { "libcublas.so.13", "libcublas.so.12", "libcublas.so.11" },
  "libcublas.so.13 (or .12, .11)", cublas_not_initialized, cublas_not_supported, NULL };
LIBRARY (cublaslt) = { { "libcublasLt.so.13", "libcublasLt.so.12", "libcublasLt.so.11" },
  "libcublasLt.so.13 (or .12, .11)", cublas_not_initialized, cublas_not_supported, NULL };
LIBRARY (curand) = { { "libcurand.so.10" }, "libcurand.so.10",
  curand_initialization_failed, curand_initialization_failed, NULL };
LIBRARY (nvrtc) = { { "libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so.11.2" },
  "libnvrtc.so.13 (or .12, .11.2)", nvrtc_internal_error, nvrtc_internal_error, NULL };

static void *
load (struct library *library)
{
  void *handle = atomic_load (&library->handle);
  for (size_t i = 0; !handle && i < 4 && library->names[i]; i++)
    handle = dlopen (library->names[i], RTLD_LAZY | RTLD_LOCAL);
  atomic_store (&library->handle, handle);
  return handle;
}

/* Where to jump; never NULL. */
HIDDEN void *
vaeanomaly_cuda_find (struct entry *entry)
{
  void *handle = load (entry->library);
  if (!handle)
    return (void *) entry->library->no_library;
  void *address = dlsym (handle, entry->name);
  if (!address)
    return (void *) entry->library->no_function;
  atomic_store (&entry->address, address);
  return address;
}

/* The library that the CUDA engine needs, in words, where it cannot be loaded; NULL where it can. */
HIDDEN const char *
vaeanomaly_cuda_missing (void)
{
  struct library *driver = &vaeanomaly_library_cuda;
  return load (driver) ? NULL : driver->title;
}
