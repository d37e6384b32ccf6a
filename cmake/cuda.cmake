# The kernels of the cuda device, compiled by nvcc without CMake's CUDA language, whose checks take seconds at every
# configuration. TANDEM_CUDA: AUTO builds them where nvcc is found, ON insists, OFF does not look. Sets TANDEM_CUDA_FOUND
# and, when true, the target tandem_cuda_kernels, which brings CUDA's headers and its runtime, linked statically.
set(TANDEM_CUDA AUTO CACHE STRING "Build the kernels of the cuda device when nvcc is installed: AUTO, ON or OFF")
set_property(CACHE TANDEM_CUDA PROPERTY STRINGS AUTO ON OFF)
set(TANDEM_CUDA_FOUND FALSE)
if(TANDEM_CUDA)
    find_program(TANDEM_NVCC nvcc HINTS ENV CUDA_HOME ENV CUDA_PATH /usr/local/cuda PATH_SUFFIXES bin)
    if(TANDEM_NVCC)
        file(REAL_PATH ${TANDEM_NVCC} nvcc)
        get_filename_component(cuda_home ${nvcc} DIRECTORY)
        get_filename_component(cuda_home ${cuda_home} DIRECTORY)
        find_path(TANDEM_CUDA_INCLUDE cuda_runtime_api.h HINTS ${cuda_home} PATH_SUFFIXES include targets/x86_64-linux/include
                                                                                targets/sbsa-linux/include)
        find_library(TANDEM_CUDART cudart_static HINTS ${cuda_home} PATH_SUFFIXES lib64 lib targets/x86_64-linux/lib
                                                                    targets/sbsa-linux/lib)
    endif()
    if(TANDEM_NVCC AND TANDEM_CUDA_INCLUDE AND TANDEM_CUDART)
        set(TANDEM_CUDA_FOUND TRUE)
    elseif(NOT TANDEM_CUDA STREQUAL AUTO)
        message(FATAL_ERROR "TANDEM_CUDA is ${TANDEM_CUDA}, but there is no nvcc with headers and libcudart_static.a "
                            "(set CUDA_HOME to where CUDA is installed)")
    endif()
endif()

if(TANDEM_CUDA_FOUND)
    # Machine code of three generations from one pass over the source, which uses nothing newer than the first; its PTX
    # is for all that come later.
    set(TANDEM_CUDA_CODE "sm_80,sm_90,sm_100,compute_80" CACHE STRING "What nvcc generates from compute_80")
    set(nvcc_flags -std=c++17 -O3 -lineinfo -gencode arch=compute_80,code=[${TANDEM_CUDA_CODE}]
                   -Xcompiler -fno-exceptions,-fno-rtti,-fno-threadsafe-statics,-Wall,-fPIC -I${PROJECT_SOURCE_DIR}/backend/cuda/kernels/ptx)
    file(GLOB cuda_sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/backend/cuda/kernels/*.cu)
    set(cuda_objects)
    foreach(source IN LISTS cuda_sources)
        get_filename_component(name ${source} NAME_WE)
        set(object ${CMAKE_CURRENT_BINARY_DIR}/cuda/${name}.o)
        add_custom_command(
            OUTPUT ${object}
            COMMAND ${TANDEM_NVCC} ${nvcc_flags} -MD -MT ${object} -MF ${object}.d -c ${source} -o ${object}
            DEPENDS ${source}
            DEPFILE ${object}.d
            COMMENT "Compiling kernels ${name}.cu"
            VERBATIM)
        list(APPEND cuda_objects ${object})
    endforeach()
    file(MAKE_DIRECTORY ${CMAKE_CURRENT_BINARY_DIR}/cuda)
    add_library(tandem_cuda_kernels STATIC ${cuda_objects})
    set_target_properties(tandem_cuda_kernels PROPERTIES LINKER_LANGUAGE C)
    set_source_files_properties(${cuda_objects} PROPERTIES EXTERNAL_OBJECT TRUE GENERATED TRUE)
    target_include_directories(tandem_cuda_kernels SYSTEM INTERFACE ${TANDEM_CUDA_INCLUDE})
    target_link_libraries(tandem_cuda_kernels INTERFACE ${TANDEM_CUDART} ${CMAKE_DL_LIBS} Threads::Threads rt m)
else()
    message(STATUS "Building without kernels for GPUs: switched off, or there is no CUDA (nvcc)")
endif()
