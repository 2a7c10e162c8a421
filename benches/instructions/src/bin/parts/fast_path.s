# The fast paths of bytepool_get and bytepool_put, as the compiler makes them of src/cache/fast.rs, in parts that can be
# left out. Written by hand from the compiler's: after a change of the fast path it is to be compared again. The rows
# "nothing" show whether it takes as long. Where there is no fast path, get returns NULL and put does nothing.
#
# Offsets: in the thread's state activity 0, and the first entry's key 0x28 and cache 0x30. In a cache the table of
# steps 0xc0, and the bias 0x90. In a bin top 0, end 8, marks 0x10, start 0x18, span 0x20, reciprocal 0x28, buffer size
# 0x30, puts 0x38, and raw base 0x40.

# void *get(void *context, size_t size)
.macro bytepool_parts_get name, key=1, activity=1, step=1, size=1, empty=1, mark=1
.p2align 4
.globl bytepool_parts_get_\name
.hidden bytepool_parts_get_\name
bytepool_parts_get_\name:
    mov rcx, qword ptr [rip + bytepool_thread_state@GOTTPOFF]
    mov rcx, qword ptr fs:[rcx]
    mov eax, edi
    and eax, 0x3ff0
.if \key
    cmp qword ptr [rax + rcx + 0x28], rdi
    jne 9f
.endif
.if \activity
    mov dword ptr [rcx], 1
.endif
    mov rax, qword ptr [rcx + rax + 0x30]
.if \step
    cvtsi2sd xmm0, rsi
    pextrw edx, xmm0, 3
    and edx, 0x1ff
.else
    mov edx, 176 # the step of 4096
.endif
    movzx edx, word ptr [rax + rdx * 2 + 0xc0]
    add rdx, rax
.if \size
    cmp rsi, qword ptr [rdx + 0x30]
    ja 9f
.endif
    mov r8, qword ptr [rdx]
    mov rax, qword ptr [r8 - 0x10]
.if \empty
    test rax, rax
    je 9f
.endif
    mov edi, dword ptr [r8 - 8]
    add r8, -16
.if \mark
    mov r9, qword ptr [rdx + 0x10]
    add rsi, qword ptr [rdx + 0x40]
    mov qword ptr [r9 + rdi * 8], rsi
.endif
    mov qword ptr [rdx], r8
.if \activity
    mov dword ptr [rcx], 0
.endif
    ret
9:  mov dword ptr [rcx], 0
    xor eax, eax
    ret
.endm

# void put(void *context, void *data, size_t size)
.macro bytepool_parts_put name, key=1, activity=1, step=1, size=1, slot=1, find=1, room=1, clear=1, count=1
.p2align 4
.globl bytepool_parts_put_\name
.hidden bytepool_parts_put_\name
bytepool_parts_put_\name:
    mov r8, rdx
    mov r9, qword ptr [rip + bytepool_thread_state@GOTTPOFF]
    mov r9, qword ptr fs:[r9]
    mov eax, edi
    and eax, 0x3ff0
.if \key
    cmp qword ptr [rax + r9 + 0x28], rdi
    jne 9f
.endif
.if \activity
    mov dword ptr [r9], 1
.endif
    mov r10, qword ptr [r9 + rax + 0x30]
.if \step
    cvtsi2sd xmm0, r8
    pextrw eax, xmm0, 3
    and eax, 0x1ff
.else
    mov eax, 176
.endif
    movzx ecx, word ptr [r10 + rax * 2 + 0xc0]
    add rcx, r10
.if \size
    cmp r8, qword ptr [rcx + 0x30]
    ja 9f
.endif
.if \slot
    mov rax, rsi
    sub rax, qword ptr [rcx + 0x18]
    rol rax, 61
    cmp rax, qword ptr [rcx + 0x20]
    jae 9f
    mov r11, qword ptr [rcx + 0x28]
    mul r11
    cmp rax, r11
    jae 9f
.endif
.if \find || \clear
    mov rax, qword ptr [rcx + 0x10]
.endif
.if \find
    mov r11, qword ptr [rax + rdx * 8]
    xor r11, qword ptr [r10 + 0x90]
    shr r11, 32
    jne 9f
.endif
    mov r10, qword ptr [rcx]
.if \room
    cmp r10, qword ptr [rcx + 8]
    je 9f
.endif
.if \clear
    mov qword ptr [rax + rdx * 8], 0
.endif
    mov qword ptr [r10], rsi
.if \slot # without it the number of the slot that was got last stays there
    mov dword ptr [r10 + 8], edx
.endif
    add r10, 16
    mov qword ptr [rcx], r10
.if \count
    inc qword ptr [rcx + 0x38]
.endif
.if \activity
    mov dword ptr [r9], 0
.endif
    ret
9:  mov dword ptr [r9], 0
    ret
.endm

bytepool_parts_get nothing
bytepool_parts_put nothing
bytepool_parts_get activity activity=0
bytepool_parts_put activity activity=0
bytepool_parts_get step step=0
bytepool_parts_put step step=0
bytepool_parts_get key key=0
bytepool_parts_put key key=0
bytepool_parts_get size size=0
bytepool_parts_put size size=0
bytepool_parts_put find find=0
bytepool_parts_get marks mark=0
bytepool_parts_put marks find=0, clear=0
bytepool_parts_put slot slot=0, find=0, clear=0
bytepool_parts_put room room=0
bytepool_parts_put count count=0
bytepool_parts_get unchecked activity=0, mark=0
bytepool_parts_put unchecked activity=0, slot=0, find=0, clear=0
bytepool_parts_get least key=0, activity=0, step=0, size=0, empty=0, mark=0
bytepool_parts_put least key=0, activity=0, step=0, size=0, slot=0, find=0, room=0, clear=0, count=0
