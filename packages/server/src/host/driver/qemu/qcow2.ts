/**
 * An empty qcow2 overlay, made directly: `qemu-img create` costs a process for a file that is the same every time but
 * for the disk's size. It names no backing file; the driver says in the command line what is below it.
 * Source of the format: QEMU docs/interop/qcow2.rst
 */
const CLUSTER_BITS = 16;
const CLUSTER = 1 << CLUSTER_BITS;
const HEADER_LENGTH = 112;

/** @param diskBytes size that the guest sees; a multiple of 512 */
export function emptyQcow2(diskBytes: number): Uint8Array {
  if (!Number.isSafeInteger(diskBytes) || diskBytes <= 0 || diskBytes % 512 !== 0)
    throw new RangeError(`a disk of ${diskBytes} bytes`);
  const bytesPerL2 = (CLUSTER / 8) * CLUSTER;
  const l1Entries = Math.ceil(diskBytes / bytesPerL2);
  if (l1Entries * 8 > CLUSTER) throw new RangeError(`a disk of ${diskBytes} bytes needs more than one L1 cluster`);

  const [refcountTable, refcountBlock, l1Table] = [CLUSTER, 2 * CLUSTER, 3 * CLUSTER];
  const image = new Uint8Array(4 * CLUSTER);
  const view = new DataView(image.buffer);
  view.setUint32(0, 0x514649fb); // "QFI\xfb"
  view.setUint32(4, 3); // version
  view.setUint32(20, CLUSTER_BITS);
  view.setBigUint64(24, BigInt(diskBytes));
  view.setUint32(36, l1Entries);
  view.setBigUint64(40, BigInt(l1Table));
  view.setBigUint64(48, BigInt(refcountTable));
  view.setUint32(56, 1); // clusters of the refcount table
  view.setUint32(96, 4); // refcount_order: 16 bits
  view.setUint32(100, HEADER_LENGTH);
  view.setBigUint64(refcountTable, BigInt(refcountBlock));
  for (let cluster = 0; cluster < 4; cluster++) view.setUint16(refcountBlock + 2 * cluster, 1);
  return image;
}
