//! Memcheck, valgrind's checker of memory, and how a program asks it.
//!
//! A *client request* is a sequence of instructions that does nothing on a processor, and is a call under valgrind.
//! valgrind's interface fixes the sequences, the requests' numbers and the places of their arguments.

/// Whether this process runs under memcheck. It is `false` under valgrind's other tools: they measure the program, so
/// it must run as it does without them.
pub(super) fn is_there() -> bool {
    let byte = 0u8;
    let address = &raw const byte as usize;
    // Memcheck answers -1, and no other tool does.
    let answer = request(MAKE_MEM_NOACCESS, address, 1);
    request(MAKE_MEM_DEFINED, address, 1);
    answer == usize::MAX
}

const MAKE_MEM_NOACCESS: usize = memcheck_request(0);
const MAKE_MEM_DEFINED: usize = memcheck_request(2);

/// The top bytes of a request's number are two letters of the tool's name.
const fn memcheck_request(number: usize) -> usize {
    (b'M' as usize) << 24 | (b'C' as usize) << 16 | number
}

/// The tool's answer, or 0 without one.
fn request(request: usize, first: usize, second: usize) -> usize {
    let arguments = [request, first, second, 0, 0, 0];
    system::call(&arguments)
}

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod system {
    pub(super) fn call(arguments: &[usize; 6]) -> usize {
        let mut answer = 0;
        // SAFETY:
        // - turns a register all the way round, and exchanges another with itself
        // - valgrind reads the arguments and writes the answer's register; the requests made here change no
        //   memory
        unsafe {
            std::arch::asm!(
                "rol rdi, 3", "rol rdi, 13", "rol rdi, 61", "rol rdi, 51",
                "xchg rbx, rbx",
                in("rax") arguments,
                inout("rdx") answer,
                options(nostack),
            );
        }
        answer
    }
}

#[cfg(all(target_os = "linux", target_arch = "aarch64"))]
mod system {
    pub(super) fn call(arguments: &[usize; 6]) -> usize {
        let mut answer = 0;
        // SAFETY: as on x86-64
        unsafe {
            std::arch::asm!(
                "ror x12, x12, #3", "ror x12, x12, #13", "ror x12, x12, #51", "ror x12, x12, #61",
                "orr x10, x10, x10",
                in("x4") arguments,
                inout("x3") answer,
                options(nostack),
            );
        }
        answer
    }
}

/// Valgrind elsewhere is not asked.
#[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
mod system {
    pub(super) fn call(_: &[usize; 6]) -> usize {
        0
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn only_memcheck_answers() {
        assert_eq!(super::is_there(), crate::valgrind::under_memcheck());
    }
}
