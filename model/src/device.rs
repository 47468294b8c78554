//! Which device computes.

use candle_core::Device;

use crate::ModelError;

/// The first GPU where the program was built with the feature `cuda`, else the processor.
///
/// candle's own test whether CUDA is available says yes on a machine without a driver, and cudarc panics there;
/// both become an error that names the fix.
pub fn device() -> Result<Device, ModelError> {
    #[cfg(feature = "cuda")]
    {
        let gpu = std::panic::catch_unwind(|| Device::new_cuda(0));
        gpu.map_err(|_| "the CUDA driver could not be loaded".to_owned())
            .and_then(|device| device.map_err(|error| error.to_string()))
            .map_err(|message| ModelError::Device { message })
    }
    #[cfg(not(feature = "cuda"))]
    Ok(Device::Cpu)
}
