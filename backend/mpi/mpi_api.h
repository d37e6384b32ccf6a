/* mpi_api.h: the functions and objects of Open MPI that the transport uses, found when a run first
 * needs them: so the program starts where MPI is not installed, and commands that need none do not
 * load its some thirty libraries. The names of MPI's objects (MPI_COMM_WORLD and others) are macros
 * for addresses in the library that the linker would have to know; here they are members. */
#ifndef TDM_MPI_API_H
#define TDM_MPI_API_H

#include <mpi.h>
#include <stddef.h>

/* Member NAME is the function MPI_NAME; see mpi.h. */
typedef struct mpi_api {
    int (*Init_thread)(int *argc, char ***argv, int required, int *provided);
    int (*Finalize)(void);
    int (*Abort)(MPI_Comm comm, int code);
    int (*Comm_rank)(MPI_Comm comm, int *rank);
    int (*Comm_size)(MPI_Comm comm, int *size);
    int (*Comm_dup)(MPI_Comm comm, MPI_Comm *copy);
    int (*Comm_free)(MPI_Comm *comm);
    int (*Comm_split_type)(MPI_Comm comm, int type, int key, MPI_Info info, MPI_Comm *part);
    int (*Comm_get_attr)(MPI_Comm comm, int key, void *value, int *found);
    int (*Comm_set_errhandler)(MPI_Comm comm, MPI_Errhandler handler);
    int (*Error_string)(int code, char *text, int *n);
    int (*Get_library_version)(char *text, int *n);
    int (*Get_processor_name)(char *text, int *n);
    int (*Isend)(const void *data, int n, MPI_Datatype type, int to, int tag, MPI_Comm comm,
                 MPI_Request *request);
    int (*Irecv)(void *data, int n, MPI_Datatype type, int from, int tag, MPI_Comm comm,
                 MPI_Request *request);
    int (*Testall)(int n, MPI_Request *requests, int *done, MPI_Status *statuses);
    int (*Iprobe)(int from, int tag, MPI_Comm comm, int *found, MPI_Status *status);
    int (*Get_count)(const MPI_Status *status, MPI_Datatype type, int *n);
    int (*Ibarrier)(MPI_Comm comm, MPI_Request *request);
    int (*Ibcast)(void *data, int n, MPI_Datatype type, int root, MPI_Comm comm,
                  MPI_Request *request);
    int (*Iallreduce)(const void *in, void *out, int n, MPI_Datatype type, MPI_Op op, MPI_Comm comm,
                      MPI_Request *request);
    int (*Iallgather)(const void *in, int n_in, MPI_Datatype in_type, void *out, int n_out,
                      MPI_Datatype out_type, MPI_Comm comm, MPI_Request *request);
    MPI_Comm comm_world;
    MPI_Datatype type_byte, type_float, type_double;
    MPI_Op op_max;
    MPI_Info info_null;
    MPI_Errhandler errors_return;
    MPI_Request request_null;
} mpi_api;

/* Opens the library on the first call, which must not be one of several at once. NULL when it is
 * missing or lacks a name; `problem` [n_bytes] then says what. */
const mpi_api *mpi_api_open(char *problem, size_t n_bytes);

#endif
