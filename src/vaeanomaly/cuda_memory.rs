//! Frames in CUDA memory, as decoders and converters of a GPU make them.
//!
//! GStreamer's library for them, libgstcuda, is looked for at run time and never linked: where it or the driver cannot be
//! loaded, the caps are those of system memory alone. All functions that are needed are in 1.22.
//!
//! A frame is mapped for the device and reduced there, in the context that it belongs to. Where that context does not take the
//! kernel, the frame is mapped as system memory, and GStreamer downloads it.
#![allow(
    unsafe_code,
    reason = "functions of libgstcuda, and addresses of device memory"
)]

use std::ffi::{CStr, c_char, c_int, c_void};
use std::mem;
use std::ptr;
use std::sync::{LazyLock, Mutex};
use std::time::Duration;

use gst::ffi::{GstContext, GstElement, GstMapFlags, GstMemory, GstObject, GstQuery};
use gst::glib::ffi::{GFALSE, gboolean};
use gst::glib::translate::{ToGlibPtr as _, from_glib_full, from_glib_none};
use gst::prelude::*;
use gst_base::prelude::*;

use super::imp::CAT;
use super::view;
use crate::cuda_link;
use crate::detector::{CudaImage, CudaReducer, Detector, FrameReport, Prediction, Tuning};
use crate::gstutil::lock;

/// Caps feature of such frames.
const FEATURE: &str = "memory:CUDAMemory";
/// Type of the context that elements share.
const CONTEXT_TYPE: &str = "gst.cuda.context";
const LIBRARY_NAME: &CStr = c"libgstcuda-1.0.so.0";
/// `GST_MAP_CUDA`: the address that a map gives is the device's.
const MAP_CUDA: GstMapFlags = gst::ffi::GST_MAP_FLAG_LAST << 1;
/// The formats that libgstcuda has from 1.22 on, in order of preference.
const FORMATS: [gst_video::VideoFormat; 15] = {
    use gst_video::VideoFormat as V;
    [
        V::Nv12,
        V::I420,
        V::P01010le,
        V::Yv12,
        V::Nv21,
        V::Y42b,
        V::Y444,
        V::Bgra,
        V::Rgba,
        V::Bgrx,
        V::Rgbx,
        V::Argb,
        V::Abgr,
        V::Bgr,
        V::Rgb,
    ]
};

/// Raw video in CUDA memory; empty where that cannot be read.
pub(super) fn caps() -> gst::Caps {
    if LIBRARY.is_none() {
        return gst::Caps::new_empty();
    }
    view::builder().features([FEATURE]).format_list(FORMATS).build()
}

/// The beginning of `GstCudaMemory`, which is public.
#[repr(C)]
struct CudaMemory {
    memory: GstMemory,
    context: *mut GstObject,
}

type IsCudaMemory = unsafe extern "C" fn(*mut GstMemory) -> gboolean;
type GetHandle = unsafe extern "C" fn(*mut GstObject) -> *mut c_void;
type HandleSetContext =
    unsafe extern "C" fn(*mut GstElement, *mut GstContext, c_int, *mut *mut GstObject) -> gboolean;
type HandleContextQuery = unsafe extern "C" fn(*mut GstElement, *mut GstQuery, *mut GstObject) -> gboolean;
type Sync = unsafe extern "C" fn(*mut GstMemory);

/// The functions of libgstcuda.
struct Library {
    is_cuda_memory: IsCudaMemory,
    get_handle: GetHandle,
    handle_set_context: HandleSetContext,
    handle_context_query: HandleContextQuery,
    /// Waits for the producer's stream. From 1.24 on; before, a frame is complete when it is pushed.
    sync: Option<Sync>,
}

static LIBRARY: LazyLock<Option<Library>> = LazyLock::new(Library::load);

unsafe extern "C" {
    fn dlopen(name: *const c_char, flags: c_int) -> *mut c_void;
    fn dlsym(handle: *mut c_void, name: *const c_char) -> *mut c_void;
}

impl Library {
    fn load() -> Option<Self> {
        const RTLD_LAZY: c_int = 1;
        // Without the driver libgstcuda is of no use, and complains.
        if cuda_link::missing().is_some() {
            return None;
        }
        // SAFETY: the name is a C string. The library stays loaded.
        let handle = unsafe { dlopen(LIBRARY_NAME.as_ptr(), RTLD_LAZY) };
        if handle.is_null() {
            return None;
        }
        let find = |name: &CStr| {
            // SAFETY: the handle is a library's, and the name a C string.
            let address = unsafe { dlsym(handle, name.as_ptr()) };
            (!address.is_null()).then_some(address)
        };
        let [load_library, init_memory] = [
            find(c"gst_cuda_load_library")?,
            find(c"gst_cuda_memory_init_once")?,
        ];
        let [is_memory, get_handle] = [
            find(c"gst_is_cuda_memory")?,
            find(c"gst_cuda_context_get_handle")?,
        ];
        let [set_context, context_query] = [
            find(c"gst_cuda_handle_set_context")?,
            find(c"gst_cuda_handle_context_query")?,
        ];
        let sync = find(c"gst_cuda_memory_sync");
        // SAFETY: the functions have these types in every version of the library.
        unsafe {
            if mem::transmute::<*mut c_void, unsafe extern "C" fn() -> gboolean>(load_library)() == GFALSE {
                return None;
            }
            mem::transmute::<*mut c_void, unsafe extern "C" fn()>(init_memory)();
            Some(Self {
                is_cuda_memory: mem::transmute::<*mut c_void, IsCudaMemory>(is_memory),
                get_handle: mem::transmute::<*mut c_void, GetHandle>(get_handle),
                handle_set_context: mem::transmute::<*mut c_void, HandleSetContext>(set_context),
                handle_context_query: mem::transmute::<*mut c_void, HandleContextQuery>(context_query),
                sync: sync.map(|address| mem::transmute::<*mut c_void, Sync>(address)),
            })
        }
    }

    /// The buffer's memory, where it is on a device, and its context.
    fn memory_of(&self, buffer: &gst::BufferRef) -> Option<(*mut GstMemory, gst::Object)> {
        if buffer.n_memory() != 1 {
            return None;
        }
        let memory = buffer.peek_memory(0).as_ptr().cast_mut();
        // SAFETY: the buffer holds the memory; that of libgstcuda begins in this way.
        unsafe {
            if (self.is_cuda_memory)(memory) == GFALSE {
                return None;
            }
            let context = (*memory.cast::<CudaMemory>()).context;
            (!context.is_null()).then(|| (memory, from_glib_none(context)))
        }
    }
}

/// The CUDA context that the element shares with its neighbours.
#[derive(Default)]
pub(super) struct SharedContext(Mutex<Option<gst::Object>>);

impl SharedContext {
    /// Takes over a context that the application or a neighbour offers, if it is of the requested device.
    pub(super) fn set(&self, element: &gst::Element, context: &gst::Context, device: Option<usize>) {
        if context.context_type() != CONTEXT_TYPE {
            return;
        }
        let Some(library) = LIBRARY.as_ref() else { return };
        let device = device
            .and_then(|number| c_int::try_from(number).ok())
            .unwrap_or(-1);
        let mut offered = ptr::null_mut();
        // SAFETY: all pointers are valid, and the function gives a reference that is ours.
        let context: Option<gst::Object> = unsafe {
            (library.handle_set_context)(
                element.as_ptr(),
                context.to_glib_none().0,
                device,
                &raw mut offered,
            );
            from_glib_full(offered)
        };
        if context.is_some() {
            *lock(&self.0) = context;
        }
    }

    /// Answers a neighbour's query for a context; `false` where the query is another or there is no context.
    pub(super) fn answer(&self, element: &gst::Element, query: &mut gst::QueryRef) -> bool {
        if query.type_() != gst::QueryType::Context {
            return false;
        }
        let (Some(library), Some(context)) = (LIBRARY.as_ref(), lock(&self.0).clone()) else {
            return false;
        };
        // SAFETY: all pointers are valid, and the query can be written to.
        unsafe {
            (library.handle_context_query)(element.as_ptr(), query.as_mut_ptr(), context.as_ptr()) != GFALSE
        }
    }

    /// Asks the neighbours and the application for a context, where the stream is in CUDA memory.
    pub(super) fn negotiated(&self, element: &gst_base::BaseTransform, caps: &gst::CapsRef) {
        let is_cuda = caps
            .features(0)
            .is_some_and(|features| features.contains(FEATURE));
        if !is_cuda || self.is_set() {
            return;
        }
        let mut query = gst::query::Context::new(CONTEXT_TYPE);
        for pad in [element.sink_pad(), element.src_pad()] {
            if pad.peer_query(&mut query)
                && let Some(context) = query.context_owned()
            {
                element.set_context(&context);
            }
            if self.is_set() {
                return;
            }
        }
        let message = gst::message::NeedContext::builder(CONTEXT_TYPE)
            .src(element)
            .build();
        let _ = element.post_message(message);
    }

    pub(super) fn clear(&self) {
        *lock(&self.0) = None;
    }

    fn is_set(&self) -> bool {
        lock(&self.0).is_some()
    }
}

/// Reads the frames of one stream.
#[derive(Debug, Default)]
pub(super) struct CudaFrames(Option<Opened>);

/// A context that frames were in.
#[derive(Debug)]
struct Opened {
    /// `None` where the context does not take the kernel, or has failed. Dropped before the context.
    reducer: Option<CudaReducer>,
    context: gst::Object,
}

impl Opened {
    fn new(library: &Library, context: gst::Object) -> Self {
        // SAFETY: the object is a context of libgstcuda, and outlives the reducer.
        let reducer = unsafe {
            let handle = (library.get_handle)(context.as_ptr());
            CudaReducer::new(handle, library.sync.is_none())
        };
        match &reducer {
            Ok(_) => gst::info!(CAT, obj = context, "frames are reduced on the GPU"),
            Err(reason) => gst::warning!(CAT, obj = context, "frames are downloaded: {reason}"),
        }
        Self {
            reducer: reducer.ok(),
            context,
        }
    }
}

/// A frame that is mapped for the device, and what reduces it.
pub(super) struct CudaFrame<'a> {
    image: CudaImage<'a>,
    reducer: &'a mut CudaReducer,
}

impl CudaFrame<'_> {
    /// Scores the frame and learns from it.
    pub(super) fn score(
        self,
        detector: &mut Detector,
        time: Option<Duration>,
        nominal: Option<Duration>,
        tuning: &Tuning,
    ) -> crate::detector::Result<(Prediction, FrameReport)> {
        // SAFETY: the planes are mapped in the reducer's context, and their producer is done.
        unsafe { detector.process_on_device(&self.image, self.reducer, time, nominal, tuning) }
    }
}

impl CudaFrames {
    /// Calls `process` with a frame in CUDA memory. `None`: it has to be mapped as system memory.
    pub(super) fn process<T>(
        &mut self,
        buffer: &gst::BufferRef,
        info: &gst_video::VideoInfo,
        process: impl FnOnce(CudaFrame<'_>) -> crate::detector::Result<T>,
    ) -> Option<Result<T, String>> {
        let library = LIBRARY.as_ref()?;
        let (memory, context) = library.memory_of(buffer)?;
        let opened = match &mut self.0 {
            Some(opened) if opened.context == context => opened,
            slot => {
                // The one before is closed first.
                *slot = None;
                slot.insert(Opened::new(library, context))
            }
        };
        let reducer = opened.reducer.as_mut()?;
        let result = MappedFrame::new(buffer, info).and_then(|frame| {
            if let Some(sync) = library.sync {
                // SAFETY: the buffer holds the memory.
                unsafe { sync(memory) };
            }
            frame.with_image(|image| process(CudaFrame { image, reducer }))
        });
        if let Some(reason) = opened.reducer.as_ref().and_then(CudaReducer::failure) {
            gst::warning!(
                CAT,
                obj = opened.context,
                "frames are downloaded from now on: {reason}"
            );
            opened.reducer = None;
            return None;
        }
        Some(result)
    }
}

/// A frame mapped for reading on the device.
struct MappedFrame(gst_video::ffi::GstVideoFrame);

impl MappedFrame {
    fn new(buffer: &gst::BufferRef, info: &gst_video::VideoInfo) -> Result<Self, String> {
        let flags = gst::ffi::GST_MAP_READ | MAP_CUDA | gst_video::ffi::GST_VIDEO_FRAME_MAP_FLAG_NO_REF;
        let mut frame = mem::MaybeUninit::uninit();
        // SAFETY: all pointers are valid, and the caller holds the buffer for longer than the frame.
        unsafe {
            let info = info.to_glib_none().0;
            let buffer = buffer.as_ptr().cast_mut();
            match gst_video::ffi::gst_video_frame_map(frame.as_mut_ptr(), info.cast_mut(), buffer, flags) {
                GFALSE => Err("the buffer cannot be mapped for the GPU".to_owned()),
                _ => Ok(Self(frame.assume_init())),
            }
        }
    }

    fn with_image<T>(
        &self,
        then: impl FnOnce(CudaImage<'_>) -> crate::detector::Result<T>,
    ) -> Result<T, String> {
        let frame = &self.0;
        // SAFETY: the frame's description is valid as long as it.
        let info: gst_video::VideoInfo = unsafe { from_glib_none(&raw const frame.info) };
        let format = view::pixel_format(info.format())?;
        let count = format.plane_count();
        let mut planes = [(0, 0); 3];
        let mut strides = [0; 3];
        for i in 0..count {
            // Planes share a map, or have one each.
            let map = match frame.map[i].memory.is_null() {
                true => &frame.map[0],
                false => &frame.map[i],
            };
            let (first, from) = (frame.data[i] as usize, map.data as usize);
            let bytes = map.size.saturating_sub(first.wrapping_sub(from));
            planes[i] = (first as u64, bytes);
            strides[i] = usize::try_from(info.stride()[i])
                .map_err(|_| format!("stride {} of plane {i} is negative", info.stride()[i]))?;
        }
        then(CudaImage {
            format,
            width: info.width() as usize,
            height: info.height() as usize,
            planes: &planes[..count],
            strides: &strides[..count],
            color: view::color_model(&info),
        })
        .map_err(|e| e.to_string())
    }
}

impl Drop for MappedFrame {
    fn drop(&mut self) {
        // SAFETY: the frame is mapped.
        unsafe { gst_video::ffi::gst_video_frame_unmap(&raw mut self.0) }
    }
}
